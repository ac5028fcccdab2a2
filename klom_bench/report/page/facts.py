"""What a run rests on: task, methods, models, commit, machine and time."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from klom_bench.cell.record_json import RecordJson
from klom_bench.errors import visible
from klom_bench.report.page.counting import all_of, each, so_many, some_of
from klom_bench.report.runs import SavedRun
from klom_bench.report.table import named

MOST_RUNS = 8
"""So many are told of, the last ones."""


def facts(records: Sequence[RecordJson], runs: Sequence[SavedRun]) -> Iterator[tuple[str, str]]:
    """Names and texts. runs: those that the records are of."""
    methods = each(named(r) for r in records)
    yield "task", all_of(each(r["task"] for r in records)) or "none"
    yield "methods", some_of(methods) or "none"
    sizes = {r["forget_set"]: r["points"]["forget"] for r in records}
    yield (
        "forget sets",
        some_of([f"{name} ({so_many(size, 'point')})" for name, size in sizes.items()]) or "none",
    )
    models = each(
        f"{r['members']['unlearned']} unlearned against {r['members']['oracle']} oracles"
        for r in records
    )
    yield "models", all_of(models)
    yield "estimator", all_of(each(_estimator(r) for r in records))
    yield "seed", all_of(each(str(r["seed"]) for r in records))
    yield "device", all_of(each(r["device"] for r in records))
    yield "klom-bench", all_of(each(r["version"] for r in records))
    if len(runs) == 1:
        yield from _of_run(runs[0])
    for run in runs[-MOST_RUNS:] if len(runs) > 1 else ():
        yield run.name, ", ".join(text for _, text in _of_run(run))
    if len(runs) > MOST_RUNS:
        yield "before these", so_many(len(runs) - MOST_RUNS, "run")


def _of_run(run: SavedRun) -> Iterator[tuple[str, str]]:
    commit = run.commit
    changed = " with changes" * commit.dirty if commit else ""
    made = f"of {_minute(commit.time)}" if commit and commit.time else None
    parts = (commit.id + changed, commit.branch, made) if commit else ()
    yield "time", _minute(run.at) if run.at else "no time known"
    yield "commit", ", ".join(filter(None, parts)) or "no commit known"
    yield "machine", run.machine or "no machine known"


def _minute(text: str) -> str:
    """A time as people write it; as it is where it is none."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return visible(text)


def _estimator(record: RecordJson) -> str:
    of = record["estimator"]
    clip = "" if of["clip"] is None else f", clip {of['clip']:g}"
    return f"{of['name']} (KL {of['direction']}, nats, {of['bins']} bins, eps {of['eps']:g}{clip})"
