"""Some methods and forget sets of saved runs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from klom_bench.cell.record_json import OfTest, test_of
from klom_bench.errors import KlomError, unknown, visible
from klom_bench.report.runs import SavedRun

T = TypeVar("T", bound=OfTest)


def chosen(
    runs: Sequence[SavedRun], methods: Iterable[str] = (), forget_sets: Iterable[str] = ()
) -> list[SavedRun]:
    """The same runs with these rows alone; all where nothing is named.

    methods: by name, several with commas between. forget_sets: likewise, or numbers and ranges.
    KlomError for a name that no run has.
    """
    every = [row for run in runs for row in (*run.rows, *run.failed)]
    keep = {id(row) for row in kept(every, methods, forget_sets)}
    return [
        replace(
            run,
            rows=tuple(row for row in run.rows if id(row) in keep),
            failed=tuple(row for row in run.failed if id(row) in keep),
        )
        for run in runs
    ]


def kept(rows: Sequence[T], methods: Iterable[str], forget_sets: Iterable[str]) -> list[T]:
    """Rows of these methods on these forget sets; KlomError where there is none."""
    from klom_bench.published.forget_sets import selected

    known = {row["method"]: row for row in rows}
    asked = [name.strip() for given in methods for name in given.split(",")]
    for name in asked:
        if name not in known:
            raise KlomError(unknown("method", name, map(visible, known)))
    sets = selected(forget_sets, tuple(dict.fromkeys(row["forget_set"] for row in rows)))
    found = [r for r in rows if r["method"] in (asked or known) and r["forget_set"] in sets]
    if rows and not found:
        raise KlomError(f"there is no row of {', '.join(asked)} on {', '.join(sets)}")
    return found


def as_one(runs: Sequence[SavedRun]) -> SavedRun:
    """The rows of several runs together; KlomError where two have the same test."""
    if len(runs) == 1:
        return runs[0]
    rows = [row for run in runs for row in run.rows]
    tests = [test_of(row) for row in rows]
    if twice := next((test for i, test in enumerate(tests) if test in tests[:i]), None):
        raise KlomError(
            f"{visible(' '.join(twice))} is there twice: give files of one run, or one after the "
            "other"
        )
    return replace(
        runs[0],
        name=", ".join(run.name for run in runs),
        rows=tuple(rows),
        failed=tuple(row for run in runs for row in run.failed),
    )
