"""What every written table does alike: numbers as text, and how many sets stand side by side."""

from itertools import pairwise

from klom_bench.report.paper.scores import WITH_ERROR, Score
from klom_bench.report.paper.tables import Table


def number(score: Score, metric: str, between: str) -> str:
    """Two decimals where an error says what they are worth, else one. between: before the error."""
    if score.value is None:
        return "n/a"
    digits = 2 if metric in WITH_ERROR else 1
    away = "" if score.away is None else f"{between}{score.away:.{digits}f}"
    return f"{round(score.value, digits) + 0.0:.{digits}f}{away}"  # no -0.00


def head(forget_set: str) -> str:
    """A set above its column."""
    return forget_set.replace("forget_set_", "set ")


def width(table: Table, sets: int) -> int:
    """About the characters of a line with so many sets."""
    names = max(len(line.name) for line in (*table.above, *table.methods))
    return names + sets * (40 if table.metric in WITH_ERROR else 22)


def blocks(table: Table, characters: int) -> list[slice]:
    """Sets that stand side by side: about as many in each, one at least."""
    count = len(table.sets)
    most = max(
        sets for sets in range(1, count + 1) if sets == 1 or width(table, sets) <= characters
    )
    parts = -(-count // most)
    ends = [round(count * part / parts) for part in range(parts + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]
