"""Rows of text in columns."""

from collections.abc import Sequence

from klom_bench.errors import visible


def with_error(value: float, high: float | None) -> str:
    """A number, and how far the upper end of its interval is away."""
    away = "" if high is None else f" ±{high - value:.2f}"
    return f"{round(value, 2) + 0.0:.2f}{away}"  # no -0.00


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns of equal width, the first `left` and the last to the left, numbers to the right."""
    rows = [[visible(text) for text in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  ".join(
            text.ljust(width) if i < left or i == last else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
