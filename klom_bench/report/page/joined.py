"""Several runs as one: the last that is known of each test."""

from collections.abc import Sequence
from dataclasses import replace

from klom_bench.cell.record_json import OfTest, Row, test_of
from klom_bench.report.runs import SavedRun


def joined(runs: Sequence[SavedRun]) -> SavedRun:
    """Rows of all runs; of a test that several have those of the last one, in its first place."""
    if len(runs) == 1:
        return runs[0]
    rows: dict[tuple[str, str, str], list[Row]] = {}
    failed: dict[tuple[str, str, str], OfTest] = {}
    for run in runs:
        mine: dict[tuple[str, str, str], list[Row]] = {}
        for row in run.rows:
            mine.setdefault(test_of(row), []).append(row)
        rows |= mine
        for test in mine:
            failed.pop(test, None)
        for of in run.failed:
            rows.pop(test_of(of), None)
            failed[test_of(of)] = of
    return replace(
        runs[-1],
        name=", ".join(dict.fromkeys(run.name for run in runs)),
        rows=tuple(row for of in rows.values() for row in of),
        failed=tuple(failed.values()),
    )


def share_tests(runs: Sequence[SavedRun]) -> bool:
    """Whether two of them measured one test, so that they can be compared."""
    seen: set[tuple[str, str, str]] = set()
    for run in runs:
        mine = set(map(test_of, run.records))
        if seen & mine:
            return True
        seen |= mine
    return False
