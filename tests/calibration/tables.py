"""Numbers as cells of Markdown tables."""

from collections.abc import Iterable, Sequence

import numpy as np


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Its lines, ending with a newline."""
    lines = [columns, *rows]
    head, *rest = (f"| {' | '.join(map(str, line))} |\n" for line in lines)
    return "".join([head, "|" + "---|" * len(columns) + "\n", *rest])


def short(value: float, digits: int = 3) -> str:
    """Without the 0 before the point."""
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def share(of: Sequence[bool] | np.ndarray, least: float = 0.0, most: float = 1.0) -> str:
    """A share; bold where it misses what is promised."""
    value = float(np.mean(of))
    return short(value) if least <= value <= most else f"**{short(value)}**"


def errors(repeats: int, *rates: float) -> str:
    """Monte Carlo errors of shares near these rates, in words."""
    found = (f"{short((p * (1 - p) / repeats) ** 0.5)} at {short(p, 2)}" for p in rates)
    return f"{repeats} repeats, Monte Carlo error {', '.join(found)}"
