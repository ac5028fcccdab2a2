"""What became of each test from run to run: whether it is better or worse, and since when."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from klom_bench.cell.baseline import Test, few, one_a_test
from klom_bench.cell.comparing import compared, settings_that_differ
from klom_bench.cell.record_json import (
    Compared,
    OfTest,
    RecordJson,
    error_of,
    name_of,
    score_of,
    test_of,
)
from klom_bench.errors import KlomError
from klom_bench.metrics.comparison import Comparison
from klom_bench.report.differences import changed_between
from klom_bench.report.runs import SavedRun

USUAL = ("forget_excess", "val_excess")
OTHERS = {
    "estimator": "another estimator",
    "members": "another N",
    "seed": "another seed",
    "forget_set_sha256": "other points in the forget set",
}
"""Why two runs are not compared, by the setting that differs."""
UNSCORED = "the test ended before it was scored"
NO_NUMBER = "no number"


@dataclass(frozen=True)
class Step:
    """A test in one run, by one metric.

    value: None where there is no number. low, high: of its 95 % interval, None where none is known.
    before: the run that it is compared with, the last one before it that can be. found: what the
    comparison says. changed: hyperparameters and the epoch, where they were others then. why:
    there is no number, or runs before it but no comparison.
    """

    run: SavedRun
    value: float | None = None
    low: float | None = None
    high: float | None = None
    before: SavedRun | None = None
    found: Comparison | None = None
    changed: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_change(self) -> bool:
        """Whether it is surely better or worse than before."""
        return self.found is not None and self.found.change in ("better", "worse")


@dataclass(frozen=True)
class History:
    """A test from run to run, by one metric, the earliest first.

    overall: the last number beside the first one that it can be compared with; None where no step
    lies between. It shows what went slowly, too.
    """

    test: OfTest
    metric: str
    steps: tuple[Step, ...]
    overall: Comparison | None

    @property
    def name(self) -> str:
        """Of the test, as its id has it."""
        return name_of(self.test)

    @property
    def since(self) -> Step | None:
        """The last step at which it became better or worse."""
        return next((step for step in reversed(self.steps) if step.is_change), None)

    @property
    def changed(self) -> bool:
        """Whether it became better or worse at a step, or from the first to the last."""
        slowly = self.overall is not None and self.overall.change in ("better", "worse")
        return slowly or self.since is not None


def histories(runs: Sequence[SavedRun], metrics: Collection[str] = USUAL) -> list[History]:
    """Of each test and metric that has a number in any of these runs, in whatever order they are.

    KlomError where a run has two records of one test that differ.
    """
    runs = in_order(runs)
    by_run = [_by_test(run) for run in runs]
    tests = {test_of(of): _of(of) for run in runs for of in (*run.records, *run.failed)}
    found = []
    for test, of in tests.items():
        of_test = [(run, at[test]) for run, at in zip(runs, by_run, strict=True) if test in at]
        for metric in dict.fromkeys(metrics):
            steps, overall = _followed(of_test, metric)
            if any(step.value is not None for step in steps):
                found.append(History(of, metric, steps, overall))
    return found


def in_order(runs: Sequence[SavedRun]) -> list[SavedRun]:
    """Each run once, the earliest first; those without a time before all, in the order given."""
    once: list[SavedRun] = []
    for run in runs:
        if not any(_same(run, other) for other in once):
            once.append(run)
    return sorted(once, key=lambda run: time_of(run) or datetime.min.replace(tzinfo=UTC))


def what_of_the_runs(runs: Sequence[SavedRun]) -> Iterator[str]:
    """What is to be said of the runs themselves: that one is given twice, or has no time."""
    once = in_order(runs)
    if twice := len(runs) - len(once):
        yield f"given twice, and counted once: {_runs(twice)}"
    if timeless := [run.name for run in once if time_of(run) is None]:
        yield f"no time is known of {few(timeless)}: before all others, in the order given"
    if len(once) == 1:
        yield (
            "one run is no history: with --benchmark-autosave pytest keeps each run below "
            ".benchmarks, where `klom history` looks"
        )


def time_of(run: SavedRun) -> datetime | None:
    """When it was; UTC where no zone is named, None where there is no time that can be read."""
    try:
        found = datetime.fromisoformat(run.at)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _same(run: SavedRun, other: SavedRun) -> bool:
    """Whether it is one session, in two files or in one that was named twice."""
    return (run.at, run.failed, run.rows) == (other.at, other.failed, other.rows)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _by_test(run: SavedRun) -> Mapping[Test, RecordJson | None]:
    """Its records; None of tests that ended before they were scored."""
    try:
        one_a_test(run.records)
    except KlomError as error:
        raise KlomError(f"{run.name}: {error}") from error
    failed: dict[Test, RecordJson | None] = dict.fromkeys(map(test_of, run.failed))
    return failed | {test_of(record): record for record in run.records}


def _of(test: OfTest) -> OfTest:
    return {
        "task": test["task"],
        "forget_set": test["forget_set"],
        "method": test["method"],
        "setting": test["setting"],
    }


def _followed(
    of_test: Sequence[tuple[SavedRun, RecordJson | None]], metric: str
) -> tuple[tuple[Step, ...], Comparison | None]:
    """The steps of one test, and the last beside the first."""
    steps: list[Step] = []
    earlier: list[tuple[SavedRun, RecordJson]] = []
    for run, record in of_test:
        if record is None:
            steps.append(Step(run, why=UNSCORED))
        elif score_of(record, metric) is None:
            steps.append(Step(run, why=NO_NUMBER))
        else:
            steps.append(_step(run, record, earlier, metric))
            earlier.append((run, record))
    return tuple(steps), _overall([record for _, record in earlier], metric)


def _overall(records: Sequence[RecordJson], metric: str) -> Comparison | None:
    if not records:
        return None
    *before, last = records
    alike = [record for record in before if not _differ(last, record, metric)]
    return compared(last, alike[0], metric) if len(alike) > 1 else None


def _step(
    run: SavedRun,
    record: RecordJson,
    earlier: Sequence[tuple[SavedRun, RecordJson]],
    metric: str,
) -> Step:
    """A number beside the last one before it that was measured in the same way."""
    error = error_of(record, metric)
    low, high = (error["low"], error["high"]) if error else (None, None)
    value = score_of(record, metric)
    for before, other in reversed(earlier):
        if not _differ(record, other, metric):
            found = compared(record, other, metric)
            changed = tuple(changed_between(record, other))
            return Step(run, value, low, high, before, found, changed)
    why = ""
    if earlier:
        _, other = earlier[-1]
        why = " and ".join(OTHERS[key] for key in _differ(record, other, metric))
    return Step(run, value, low, high, why=why)


def _differ(now: Compared, before: Compared, metric: str) -> list[str]:
    return [str(key) for key in settings_that_differ(now, before, [metric])]
