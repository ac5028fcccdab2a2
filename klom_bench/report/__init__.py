"""Records in words: the summary table and what a failing test says."""
