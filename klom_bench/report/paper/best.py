"""Which methods are the best on a forget set, as far as that can be told."""

from collections.abc import Sequence

from klom_bench.cell.record_json import RecordJson, score_of
from klom_bench.report.paper.scores import WITH_ERROR, nothing, of_gates, scored
from klom_bench.report.ranking import ranked

NO_CANDIDATES = ("do_nothing", "retrain")


def best(records: Sequence[RecordJson], metric: str) -> list[RecordJson]:
    """Those than which none is surely better on the forget points (Holm); none of one or none.

    No candidates: doing nothing, what scores above its interval (a few ruined models make an error
    so large that it could not be told from the best), retraining, and what sees the oracles that it
    is scored against.

    Args:
        records: of one forget set and the same settings.
        metric: of `scores.METRICS`; nothing is the best by one without an error.
    """
    name = of_gates(metric)
    candidates = [
        record
        for record in records
        if record["method"] not in NO_CANDIDATES
        and not record["sees_oracles"]
        and score_of(record, name) is not None
        and not _above_nothing(record, metric)
    ]
    if metric not in WITH_ERROR or len(candidates) < 2:
        return []
    candidates.sort(key=lambda record: score_of(record, name) or 0.0)  # as places are
    places = ranked(candidates, name).places
    return [record for record, place in zip(candidates, places, strict=True) if place.first == 1]


def _above_nothing(record: RecordJson, metric: str) -> bool:
    mine, idle = scored(record, metric)[0].value, nothing(record, metric)[0]
    if mine is None or idle.value is None:
        return False
    return mine > idle.value + (idle.away or 0.0)
