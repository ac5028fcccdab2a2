"""Histories of tests as `klom history` prints them."""

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any

from klom_bench.cell.baseline import few
from klom_bench.report.columns import aligned
from klom_bench.report.differences import in_json, shown
from klom_bench.report.history import History, Step, in_order, time_of
from klom_bench.report.runs import SavedRun

MANY = 12
"""Tables above which only those of changes are shown, and rows above which not all are."""
LAST = 3
HEAD = ("date", "commit", "value", "difference", "")


def lines(found: Sequence[History], every: bool) -> Iterator[str]:
    """A table a test and metric, and what it says in words; of many those that changed, unless
    every one is asked for."""
    chosen = [of for of in found if every or len(found) <= MANY or of.changed]
    for history in chosen:
        yield f"{history.metric} of {history.name}:"
        yield from aligned([HEAD, *_rows(history.steps)], left=2)
        yield from _in_words(history)
        yield ""
    if gone := len(found) - len(chosen):
        names = {of.name for of in found} - {of.name for of in chosen}
        yield (
            f"{gone} of {len(found)} tables have no change, so they are left out ({few(names)}); "
            "--test PART shows those of tests with PART in their name"
        )
    if any(step.found for history in found for step in history.steps):
        yield (
            "lower is better; ±: half of the 95 % interval; difference: from the last run before "
            "that was measured in the same way"
        )
        yield "by chance 1 row in 20 says better or worse where nothing changed"
    if any(step.found and step.found.change is None for of in found for step in of.steps):
        yield "rows without a word: no error of such a difference is known"


def as_json(found: Sequence[History], runs: Sequence[SavedRun], said: Sequence[str]) -> Any:
    """One plain JSON object; runs are named by their place in `runs`."""
    runs = in_order(runs)
    place = {id(run): i for i, run in enumerate(runs)}

    def in_plain_values(step: Step) -> dict[str, Any]:
        return {
            "run": place[id(step.run)],
            "value": step.value,
            "low": step.low,
            "high": step.high,
            "before": place[id(step.before)] if step.before else None,
            "comparison": in_json(step.found) if step.found else None,
            "changed": [*step.changed],
            "why": step.why or None,
        }

    return {
        "schema": 1,
        "runs": [_run_in_json(run) for run in runs],
        "histories": [
            {
                **history.test,
                "metric": history.metric,
                "steps": [in_plain_values(step) for step in history.steps],
                "since": place[id(since.run)] if (since := history.since) else None,
                "overall": in_json(history.overall) if history.overall else None,
            }
            for history in found
        ],
        "said": [*said],
    }


def named(run: SavedRun) -> str:
    """The commit, or the file where none is known."""
    return run.commit.short if run.commit else run.name


def date_of(run: SavedRun) -> str:
    """To the minute, UTC."""
    time = time_of(run)
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" if time else "no time"


def _run_in_json(run: SavedRun) -> dict[str, Any]:
    commit = run.commit
    return {
        "file": run.name,
        "at": run.at or None,
        "commit": commit.id if commit else None,
        "branch": commit.branch if commit else None,
        "dirty": commit.dirty if commit else None,
        "machine": run.machine,
    }


def _rows(steps: Sequence[Step]) -> Iterator[Sequence[str]]:
    """A row a run; of many runs those where something changed, and what stands around them."""
    kept = {*range(len(steps))}
    if len(steps) > MANY:
        at = [i for i, step in enumerate(steps) if step.is_change]
        kept = {0, *at, *(i - 1 for i in at), *range(len(steps) - LAST, len(steps))}
    gone = 0
    for i, step in enumerate(steps):
        if i not in kept:
            gone += 1
            continue
        if gone:
            yield f"... {gone} more", "", "", "", ""
            gone = 0
        yield _row(step)


def _row(step: Step) -> Sequence[str]:
    when, value = (date_of(step.run), named(step.run)), ""
    if step.value is not None:
        away = "" if step.high is None else f" ±{step.high - step.value:.4f}"
        value = f"{step.value:.4f}{away}"
    if step.found is None:
        said = f"not compared: {step.why}" if step.why and value else step.why
        return *when, value, "", said
    _, _, difference, _, word = shown(step.found)
    return *when, value, difference, "; ".join(filter(None, (word, *step.changed)))


def _in_words(history: History) -> Iterator[str]:
    """Since when, and what became of it in all."""
    compared = sum(step.found is not None for step in history.steps)
    if (since := history.since) and since.found and since.before:
        yield (
            f"{since.found.change} since {named(since.run)} ({date_of(since.run)}); "
            f"before it {named(since.before)} ({date_of(since.before)})"
        )
    elif compared and history.steps[-1].found and history.steps[-1].found.change:
        yield f"no change seen from run to run in {compared + 1} runs"
    if history.overall and history.overall.change in ("better", "worse"):
        _, _, difference, _, word = shown(history.overall)
        yield f"from the first run to the last: {word}, {difference}"
