"""Values that are typed as text."""

import ast
from typing import Any


def literal(text: str) -> Any:
    """A Python literal (1e-3, 5, True, (3, 5, 9)), else the text itself."""
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text.strip()
