"""Whether a hyperparameter is used: other values to try, and whether code reads it at all."""

import dis
import math
from collections.abc import Sequence
from types import CodeType
from typing import Any


def other_values(value: Any, choices: Sequence[Any] = ()) -> list[Any]:
    """Other values of a hyperparameter; none for one whose values cannot be guessed."""
    if choices:
        return [other for other in choices if other != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        # Smaller ones first: fewer epochs are done sooner, and batch sizes matter below the set's.
        smaller = [value // 2**k for k in range(1, 12)]
        return [v for v in dict.fromkeys([*smaller, value + 1, 2 * value, 1]) if v != value]
    if isinstance(value, float):
        if not value or not math.isfinite(value):
            return [0.5, 1e-3]
        # A thousandth soon: norms are clipped and ratios are reached there, if anywhere.
        return [value * f for f in (2, 1e-3, 0.5, 10, 0.1, 1000, 1e-9)]
    if isinstance(value, tuple):
        return [value[1:], value[:-1], ()]
    return []


def is_read(code: CodeType, name: str) -> bool:
    """Whether code loads a variable; instructions of Python 3.13 may load two."""
    loads = (i.argval for i in dis.get_instructions(code) if i.opname.startswith("LOAD"))
    return any(
        name == found or (isinstance(found, tuple) and name in found) for found in loads
    ) or any(is_read(inner, name) for inner in code.co_consts if isinstance(inner, CodeType))
