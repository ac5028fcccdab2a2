"""From a record to JSON values: null where there is no number, never nan."""

from collections.abc import Mapping

import numpy as np

from klom_bench.cell.gates import Gate
from klom_bench.cell.record import Excess, Histogram, Looks, Record, Scores
from klom_bench.cell.record_json import (
    SCHEMA,
    GateJson,
    HistogramJson,
    Judged,
    LooksJson,
    Numbers,
    PerPointJson,
    RecordJson,
    RiseJson,
    Splits,
)
from klom_bench.metrics.comparison import smallest_seen
from klom_bench.metrics.excess import ExcessJson
from klom_bench.metrics.summary import plain


def to_json(record: Record) -> RecordJson:
    """The record in JSON values; per-point scores only where it has them."""
    count, first = record.without_score
    return {
        "schema": SCHEMA,
        "version": record.version,
        "task": record.task,
        "forget_set": record.forget_set,
        "forget_set_sha256": record.forget_set_sha256,
        "method": record.method,
        "setting": record.setting,
        "members": {"oracle": record.oracles, "unlearned": record.members},
        "estimator": record.estimator.as_json(),
        "seed": record.seed,
        "hyperparameters": {**record.hyperparameters},
        "tuning": record.tuning,
        "sees_oracles": record.sees_oracles,
        "rests_on": record.rests_on,
        "epoch": record.epoch,
        "device": record.device,
        "pairing": None if record.pairing is None else record.pairing.as_json(),
        "scores": _splits(record.scores),
        "reverse": _splits(record.reverse),
        **_judged(record),
        "do_nothing": _splits(record.do_nothing),
        "do_nothing_reverse": _splits(record.do_nothing_reverse),
        "nowhere": _splits(record.nowhere),
        "floor": _splits(record.floor),
        "floor_reverse": _splits(record.floor_reverse),
        "perfect": _each(record.perfect),
        "accuracy": _numbers(record.accuracy),
        "accuracy_do_nothing": _numbers(record.accuracy_do_nothing),
        "accuracy_oracle": _numbers(record.accuracy_oracle),
        "seconds": _numbers(record.seconds),
        "relative_cost": _numbers(record.relative_cost),
        "worst": {
            split: [{"point": point, "klom": plain(klom)} for point, klom in points]
            for split, points in record.worst.items()
        },
        "histograms": [_histogram(of) for of in record.histograms],
        "without_score": {"points": count, "first": first},
        "per_point": _per_point(record),
        "gates": [_gate(gate) for gate in record.gates],
        "verdict": record.verdict,
        "looks": _looks(record.looks),
        "earlier": [
            {
                "epoch": r.epoch,
                "scores": _splits(r.scores),
                "reverse": _splits(r.reverse),
                **_judged(r),
                "accuracy": _numbers(r.accuracy),
                "seconds": _numbers(r.seconds),
                "relative_cost": _numbers(r.relative_cost),
            }
            for r in record.earlier
        ],
    }


def _judged(record: Record) -> Judged:
    return {
        "points": {**record.counts},
        "quantiles": _each(record.quantiles),
        "errors": {
            split: {name: estimate.as_json() for name, estimate in errors.items()}
            for split, errors in record.errors.items()
        },
        "highest": _numbers(record.highest),
        "excess": {split: _excess(of) for split, of in record.excess.items()},
        "excess_do_nothing": {split: _excess(of) for split, of in record.excess_do_nothing.items()},
        "nearer": {split: of.as_json() for split, of in record.nearer.items()},
        "leftover": record.leftover.as_json() if record.leftover else None,
        "retrained": record.retrained.as_json() if record.retrained else None,
        "word": record.word,
        "word_is_provisional": record.word_is_provisional,
        "below_floor": [*record.below_floor],
    }


def _numbers(values: Mapping[str, float]) -> Numbers:
    return {name: plain(value) for name, value in values.items()}


def _each(values: Mapping[str, Mapping[str, float]]) -> Splits:
    return {split: _numbers(of) for split, of in values.items()}


def _splits(scores: Scores) -> Splits:
    return {split: summary.as_json() for split, summary in scores.items()}


def _excess(of: Excess) -> ExcessJson:
    return {**of.as_json(), "cut": plain(of.cut), "reverse": of.reverse.as_json()}


def _histogram(of: Histogram) -> HistogramJson:
    return {
        "point": of.point,
        "edges": [*of.edges],
        "oracles": [*of.oracles],
        "originals": None if of.originals is None else [*of.originals],
        "unlearned": [*of.unlearned],
    }


def _per_point(record: Record) -> PerPointJson | None:
    if record.points is None or record.reverse_points is None or record.splits is None:
        return None
    return {
        "klom": _scores(record.points),
        "reverse": _scores(record.reverse_points),
        "splits": {split: rows.tolist() for split, rows in record.splits.items()},
    }


def _scores(points: np.ndarray) -> list[float | None]:
    return [plain(score) for score in points]


def _looks(looks: Looks | None) -> LooksJson | None:
    if looks is None:
        return None
    return {"sizes": [*looks.sizes], "made": looks.made, "stopped": looks.stopped}


def _gate(gate: Gate) -> GateJson:
    low, high = gate.interval or (None, None)
    before = gate.earlier
    return {
        "metric": gate.metric,
        "limit": gate.limit,
        "value": plain(gate.value),
        "se": None if gate.estimate is None else plain(gate.estimate.se),
        "skew": None if gate.estimate is None else plain(gate.estimate.skew),
        "low": plain(low),
        "high": plain(high),
        "confidence": None if gate.estimate is None else gate.confidence,
        "early": gate.early,
        "family": gate.family,
        "settled_at": gate.settled_at,
        "perfect": plain(gate.perfect),
        "perfect_by": None if gate.perfect is None else "permuted models",
        "before": before.value if before else None,
        "allowed": before.allowed if before else None,
        "baseline": before.source if before else None,
        "changed": [*before.changed] if before else [],
        "rise": _rise(gate),
        "why": gate.why,
        "verdict": gate.verdict,
    }


def _rise(gate: Gate) -> RiseJson | None:
    rise = gate.earlier.rise if gate.earlier else None
    if rise is None:
        return None
    return {
        **rise.difference.as_json(),
        "over": rise.over.as_json(),
        "smallest": plain(smallest_seen(rise.over, gate.confidence)),
        "paired": rise.paired,
        "models": rise.over.models,
    }
