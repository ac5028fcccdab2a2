"""One cell: (task, method, forget set) -> record, its gates and its baseline."""
