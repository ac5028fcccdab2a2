"""What became of the tests of one run in another."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from klom_bench.cell.baseline import Baseline, one_a_test
from klom_bench.errors import KlomError, visible
from klom_bench.report.differences import HEAD as HEADS
from klom_bench.report.differences import Differences
from klom_bench.report.runs import SavedRun

HEAD = (*HEADS[:-1], "change")


@dataclass(frozen=True)
class Changes:
    """Two runs beside each other: rows of a table under these headings, and sentences."""

    before: str
    now: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    said: Sequence[str]

    @property
    def short(self) -> str:
        """How many numbers became better or worse; empty where that is not known."""
        counts = (line.partition(";")[0] for line in self.said)
        return next((line for line in counts if " better, " in line), "")


def changes(before: SavedRun, now: SavedRun) -> Changes:
    """What is better or worse now; where nothing can be compared, why."""
    names = _names(before, now)
    try:
        found = Differences(_baseline(before, names[0]), _baseline(now, names[1]), ())
    except KlomError as error:
        return Changes(*names, HEAD, (), (visible(str(error)),))
    rows = [[visible(cell) for cell in row] for row in found.rows()]
    return Changes(*names, HEAD, rows, [visible(line) for line in found.said()])


def _names(before: SavedRun, now: SavedRun) -> tuple[str, str]:
    if before.name != now.name:
        return before.name, now.name
    return f"{before.name} of {before.at or 'no time'}", f"{now.name} of {now.at or 'no time'}"


def _baseline(run: SavedRun, name: str) -> Baseline:
    return Baseline(Path(name), one_a_test(run.records))
