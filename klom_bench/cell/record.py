"""What is answered: scores, times and verdict of one cell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from klom_bench import __version__
from klom_bench.cell.cell import Cell
from klom_bench.cell.evidence import Evidence
from klom_bench.cell.gates import EXCESS, METRICS, Earlier, Gate, Verdict, overall, refuse_too_few
from klom_bench.cell.record_json import (
    SCHEMA,
    Asked,
    GateJson,
    Judged,
    Numbers,
    RecordJson,
    Splits,
    asked,
    plain_value,
)
from klom_bench.metrics.estimate import CONFIDENCE, Estimate, EstimateJson
from klom_bench.metrics.floor import floor_limits, members_needed
from klom_bench.metrics.resampling import with_error
from klom_bench.metrics.summary import Summary, plain
from klom_bench.metrics.word import SETTLED

Scores = dict[str, Summary]


@dataclass(frozen=True)
class Record:
    """What one cell leaves behind.

    points: KLOM of every point, float64 [points], train first. nowhere: what models score that are
    nowhere near the oracles, about the most there is. relative_cost compares with
    training afresh on R: `time` measured, `examples` counted. earlier: after earlier epochs of the
    same run.
    """

    cell: Cell
    points: np.ndarray
    scores: Scores
    reverse: Scores
    do_nothing: Scores
    do_nothing_reverse: Scores
    nowhere: Scores
    floor: Scores
    floor_reverse: Scores
    accuracy: Mapping[str, float]
    accuracy_do_nothing: Mapping[str, float]
    accuracy_oracle: Mapping[str, float]
    epoch: int
    seconds: Mapping[str, float]
    relative_cost: Mapping[str, float]
    evidence: Evidence
    gates: tuple[Gate, ...] = ()
    earlier: "tuple[Record, ...]" = ()

    @property
    def verdict(self) -> Verdict:
        """Of all gates together."""
        return overall(self.gates)

    @property
    def perfect(self) -> dict[str, dict[str, float]]:
        """What a perfect unlearner's scores stay below in 95 % of runs, by split; gates have it
        for the exact number of points."""
        cell = self.cell
        return {
            split: floor_limits(cell.estimator, cell.oracles, cell.members, _coarse(len(rows)))
            for split, rows in cell.splits.items()
        }

    def judged(
        self, limits: Mapping[str, float], confidence: float = CONFIDENCE
    ) -> tuple[Gate, ...]:
        """The gates that these limits make, by metric."""
        return tuple(
            self.gate(metric, limit, confidence=confidence)
            for metric, limit in sorted(limits.items())
        )

    def gate(
        self,
        metric: str,
        limit: float,
        earlier: Earlier | None = None,
        confidence: float = CONFIDENCE,
    ) -> Gate:
        """One number of this record held against a limit."""
        reverse, split, statistic = METRICS[metric]
        if statistic == EXCESS:
            estimate = self.excess(split)
            return Gate(metric, limit, estimate.value, None, earlier, estimate, confidence)
        value = getattr((self.reverse if reverse else self.scores)[split], statistic)
        perfect = float(np.quantile(self.evidence.permuted(split)[reverse][statistic], 0.95))
        error = self.error(split, "mean", reverse) if statistic == "mean" else None
        return Gate(metric, limit, value, perfect, earlier, error, confidence)

    def excess(self, split: str) -> Estimate:
        """The excess of a split with its error; KlomError with too few models."""
        refuse_too_few([f"{split}_{EXCESS}"], min(self.cell.members, self.cell.oracles))
        return self.evidence.excess[split].forward.estimate

    def error(self, split: str, statistic: str, reverse: bool = False) -> Estimate:
        """KLOM's mean or P95 over a split with its error, which of P95 is approximate."""
        score = (self.reverse if reverse else self.scores)[split]
        errors = self.evidence.errors[split][reverse]
        models = min(self.cell.oracles, self.cell.members)
        return with_error(getattr(score, statistic), getattr(errors, statistic), models)

    def needed(self, gate: Gate) -> int | None:
        """The N at which an inconclusive gate could be decided."""
        reverse, split, statistic = gate.parts
        points = len(self.cell.splits[split])
        return members_needed(self.cell.estimator, points, statistic, gate.limit, reverse)

    def worst(self, split: str, count: int = 5) -> list[tuple[int, float]]:
        """The points of a split with the highest KLOM: (point, score)."""
        rows = self.cell.splits[split]
        order = np.argsort(-self.points[rows], kind="stable")[:count]
        return [(int(rows[i]), float(self.points[rows[i]])) for i in order]


def _coarse(points: int) -> int:
    """A number of points to two digits: limits hardly differ, and are simulated once."""
    return round(points, 2 - len(str(points)))


def asked_of(cell: Cell) -> Asked:
    """What is asked of a cell, known before anything is measured."""
    return asked(
        cell.task.name,
        cell.forget_set,
        cell.method.name,
        cell.variant,
        cell.members,
        cell.oracles,
        cell.estimator,
        cell.seed,
    )


def as_json(record: Record) -> RecordJson:
    """The record in JSON values."""
    cell = record.cell
    return {
        "schema": SCHEMA,
        "version": __version__,
        **asked_of(cell),
        "hyperparameters": {name: plain_value(v) for name, v in cell.hyperparameters.items()},
        "tuning": cell.tuning,
        "sees_oracles": cell.method.sees_oracles,
        "rests_on": cell.halves if "datamodels" in cell.method.needs else None,
        "epoch": record.epoch,
        "device": str(cell.device),
        "scores": _splits(record.scores),
        "reverse": _splits(record.reverse),
        **_judged_json(record),
        "do_nothing": _splits(record.do_nothing),
        "do_nothing_reverse": _splits(record.do_nothing_reverse),
        "nowhere": _splits(record.nowhere),
        "floor": _splits(record.floor),
        "floor_reverse": _splits(record.floor_reverse),
        "perfect": {split: _numbers(limits) for split, limits in record.perfect.items()},
        "accuracy": _numbers(record.accuracy),
        "accuracy_do_nothing": _numbers(record.accuracy_do_nothing),
        "accuracy_oracle": _numbers(record.accuracy_oracle),
        "seconds": _numbers(record.seconds),
        "relative_cost": _numbers(record.relative_cost),
        "gates": [_gate(gate) for gate in record.gates],
        "verdict": record.verdict,
        "earlier": [
            {
                "epoch": r.epoch,
                "scores": _splits(r.scores),
                "reverse": _splits(r.reverse),
                **_judged_json(r),
                "accuracy": _numbers(r.accuracy),
                "seconds": _numbers(r.seconds),
                "relative_cost": _numbers(r.relative_cost),
            }
            for r in record.earlier
        ],
    }


def _numbers(values: Mapping[str, float]) -> Numbers:
    return {name: plain(value) for name, value in values.items()}


def _splits(scores: Scores) -> Splits:
    return {split: summary.as_json() for split, summary in scores.items()}


def _judged_json(record: Record) -> Judged:
    of, splits = record.evidence, record.scores
    return {
        "points": {split: len(rows) for split, rows in record.cell.splits.items()},
        "errors": {split: _errors(record, split) for split in splits},
        "highest": _numbers(of.highest),
        "excess": {split: both.as_json(of.cut[split]) for split, both in of.excess.items()},
        "excess_do_nothing": {split: both.as_json() for split, both in of.nothing.items()},
        "retrained": of.test.as_json() if of.test else None,
        "word": of.word,
        "word_is_provisional": min(record.cell.oracles, record.cell.members) < SETTLED,
        "below_floor": [*of.below_floor],
    }


def _errors(record: Record, split: str) -> dict[str, EstimateJson]:
    return {
        f"{'reverse_' * reverse}{statistic}": record.error(split, statistic, reverse).as_json()
        for reverse in (False, True)
        for statistic in ("mean", "p95")
    }


def _gate(gate: Gate) -> GateJson:
    low, high = gate.interval or (None, None)
    return {
        "metric": gate.metric,
        "limit": gate.limit,
        "value": plain(gate.value),
        "low": plain(low),
        "high": plain(high),
        "confidence": None if gate.estimate is None else gate.confidence,
        "settled_at": gate.settled_at,
        "perfect": plain(gate.perfect),
        "perfect_by": None if gate.perfect is None else "permuted models",
        "before": gate.earlier.value if gate.earlier else None,
        "verdict": gate.verdict,
    }
