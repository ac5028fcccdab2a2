"""What must be said beside a table, so that it can be read alone."""

from collections.abc import Collection, Iterable, Sequence

from klom_bench.cell.gates import EXCESS
from klom_bench.cell.record_json import RecordJson
from klom_bench.report.paper.scores import WITH_ERROR

MISSING = {
    "failed": "failed: the test ended before it was scored",
    "n/a": "n/a: the method does not apply, or was not measured",
}


def caption(
    records: Sequence[RecordJson], metric: str, best: bool, missing: Collection[str]
) -> str:
    """Sentences, as plain text.

    Args:
        records: those of the table.
        metric: of `scores.METRICS`.
        best: whether something is in bold.
        missing: words that stand in cells.
    """
    return " ".join(f"{sentence}." for sentence in _sentences(records, metric, best, missing))


def _sentences(
    records: Sequence[RecordJson], metric: str, best: bool, missing: Collection[str]
) -> Iterable[str]:
    first = records[0]
    estimator = first["estimator"]
    yield f"{_what(metric)} on the forget / retain / val points of {first['task']}; lower is better"
    yield (
        f"{_models(records)}, seed {first['seed']}, estimator {estimator['name']} "
        f"(KL {estimator['direction']}), {_each(records, 'device')}"
    )
    yield (
        "The floor is a perfect unlearner, at every number of models"
        if metric == EXCESS
        else "The floor is what a perfect unlearner scores at this number of models"
    )
    if metric in WITH_ERROR:
        how = "the jackknife over models" if metric == EXCESS else "models drawn anew"
        yield f"±: half of the 95 % interval, by {how}"
    else:
        yield "No error of percentiles can be trusted, so none is told and nothing is in bold"
    if best:
        yield (
            "Bold: no other candidate is surely better on the forget points (pairs of methods on "
            "the same models, Holm, 5 % a forget set); no candidates are doing nothing, what "
            "scores above it, retrain, and what sees the oracles"
        )
    yield (
        "Cost: training examples that a model saw, over those of training anew, in the mean over "
        "the sets"
    )
    if any(record["sees_oracles"] for record in records):
        yield "*: sees the oracles that it is scored against, an upper bound"
    if any(record["rests_on"] for record in records):
        yield "+: rests on models trained on random halves, which are not in its cost"
    if any(record["earlier"] for record in records):
        yield "After the last epoch that was measured"
    yield from (text for word, text in MISSING.items() if word in missing)
    yield f"klom-bench {_each(records, 'version')}"


def _what(metric: str) -> str:
    if metric == EXCESS:
        return (
            "Excess, a KL divergence in nats with the noise of finite numbers of models taken off,"
        )
    statistic = metric.removeprefix("reverse_")
    way = "KLOM" if metric == statistic else "reverse KLOM (the other direction)"
    return f"{'Mean' if statistic == 'mean' else statistic.upper()} of {way} in nats"


def _models(records: Sequence[RecordJson]) -> str:
    unlearned, oracles = (
        _range(record["members"][side] for record in records) for side in ("unlearned", "oracle")
    )
    needed = ", as many as settle the gates" * any(record["looks"] for record in records)
    return f"{unlearned} unlearned models against {oracles} oracles a set{needed}"


def _range(counts: Iterable[int]) -> str:
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _each(records: Sequence[RecordJson], key: str) -> str:
    found = dict.fromkeys(record[key] for record in records)  # type: ignore[literal-required]
    return " and ".join(found)
