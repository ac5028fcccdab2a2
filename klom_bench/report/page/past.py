"""What became of tests over more than two runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from klom_bench.errors import KlomError, visible
from klom_bench.report.differences import shown
from klom_bench.report.history import History, histories, what_of_the_runs
from klom_bench.report.history_table import date_of, named
from klom_bench.report.runs import SavedRun

HEAD = (
    "test", "metric", "runs", "first", "last", "difference", "from first to last", "since",
)  # fmt: skip


@dataclass(frozen=True)
class Past:
    """Rows of a table under `HEAD`, and sentences."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    said: Sequence[str]


def past(runs: Sequence[SavedRun]) -> Past:
    """A row a test and metric; where a run cannot be followed, why."""
    said = [visible(line) for line in what_of_the_runs(runs)]
    try:
        rows = [_row(of) for of in histories(runs)]
    except KlomError as error:
        return Past(HEAD, (), (*said, visible(str(error))))
    said.append(
        "Lower is better; ± is half of a 95 % interval. Since: the last run that was surely better "
        "or worse than the one before it. By chance one step in 20 looks so where nothing changed."
    )
    return Past(HEAD, rows, said)


def _row(of: History) -> tuple[str, ...]:
    known = [step.value for step in of.steps if step.value is not None]
    difference, word, since = "", "", of.since
    if of.overall:
        _, _, difference, _, word = shown(of.overall)
    told = ""
    if since and since.found:
        told = f"{since.found.change} since {named(since.run)} ({date_of(since.run)})"
    cells = (
        of.name, of.metric, str(len(of.steps)), f"{known[0]:.4f}", f"{known[-1]:.4f}", difference,
        word, told,
    )  # fmt: skip
    return tuple(map(visible, cells))
