"""Some rows of saved runs, and several runs as one."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from klom_bench.cell.record_json import OfTest, test_of
from klom_bench.errors import KlomError, unknown, visible
from klom_bench.report.runs import SavedRun


def chosen(
    runs: Sequence[SavedRun], methods: Iterable[str] = (), forget_sets: Iterable[str] = ()
) -> list[SavedRun]:
    """The same runs with rows of these methods on these forget sets; all where nothing is named.

    methods: by name, several with commas between. forget_sets: likewise, or numbers and ranges.
    KlomError for a name that no run has, and where there is no such row.
    """
    from klom_bench.published.forget_sets import selected

    every: list[OfTest] = [row for run in runs for row in (*run.rows, *run.failed)]
    known = {row["method"] for row in every}
    asked = {name.strip() for given in methods for name in given.split(",")}
    for name in sorted(asked - known):
        raise KlomError(unknown("method", name, sorted(map(visible, known))))
    sets = selected(forget_sets, tuple(dict.fromkeys(row["forget_set"] for row in every)))

    def wanted(row: OfTest) -> bool:
        return row["method"] in (asked or known) and row["forget_set"] in sets

    if not any(map(wanted, every)):
        raise KlomError(f"there is no row of {', '.join(sorted(asked))} on {', '.join(sets)}")
    return [
        replace(
            run,
            rows=tuple(row for row in run.rows if wanted(row)),
            failed=tuple(row for row in run.failed if wanted(row)),
        )
        for run in runs
    ]


def as_one(runs: Sequence[SavedRun]) -> SavedRun:
    """The rows of several runs together; KlomError where two are of the same test."""
    rows = [row for run in runs for row in run.rows]
    for test, times in Counter(map(test_of, rows)).items():
        if times > 1 and len(runs) > 1:
            raise KlomError(
                f"{visible(' '.join(test))} is there twice: give files of one run, or one alone"
            )
    return replace(
        runs[0],
        name=", ".join(run.name for run in runs),
        rows=tuple(rows),
        failed=tuple(row for run in runs for row in run.failed),
    )
