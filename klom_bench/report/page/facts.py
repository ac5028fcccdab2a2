"""What a run rests on: task, methods, models, commit, machine and time."""

from collections.abc import Iterator, Sequence

from klom_bench.cell.record_json import RecordJson
from klom_bench.report.page.counting import all_of, each, so_many, some_of
from klom_bench.report.runs import SavedRun
from klom_bench.report.table import named


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
    for run in runs:
        of = f" of {run.name}" if len(runs) > 1 else ""
        yield f"time{of}", run.at or "not known"
        commit = run.commit
        parts = (
            [commit.id + " with changes" * commit.dirty, commit.branch, commit.time]
            if commit
            else []
        )
        yield f"commit{of}", ", ".join(filter(None, parts)) or "not known"
        yield f"machine{of}", run.machine or "not known"


def _estimator(record: RecordJson) -> str:
    of = record["estimator"]
    clip = "" if of["clip"] is None else f", clip {of['clip']:g}"
    return f"{of['name']} (KL {of['direction']}, nats, {of['bins']} bins, eps {of['eps']:g}{clip})"
