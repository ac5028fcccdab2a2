"""What is answered: scores, times and verdict of one cell."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from klom_bench import __version__
from klom_bench.cell.cell import Cell
from klom_bench.cell.gates import METRICS, Earlier, Gate, Verdict, overall
from klom_bench.cell.record_json import (
    SCHEMA,
    Asked,
    Numbers,
    RecordJson,
    Splits,
    asked,
    plain_value,
)
from klom_bench.metrics.floor import floor_limits, members_needed
from klom_bench.metrics.summary import Summary, plain

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
    nowhere: Scores
    floor: Scores
    accuracy: Mapping[str, float]
    accuracy_do_nothing: Mapping[str, float]
    accuracy_oracle: Mapping[str, float]
    epoch: int
    seconds: Mapping[str, float]
    relative_cost: Mapping[str, float]
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

    def judged(self, limits: Mapping[str, float]) -> tuple[Gate, ...]:
        """The gates that these limits make, by metric."""
        return tuple(self.gate(metric, limit) for metric, limit in sorted(limits.items()))

    def gate(self, metric: str, limit: float, earlier: Earlier | None = None) -> Gate:
        """This record's score held against a limit."""
        reverse, split, statistic = METRICS[metric]
        cell, points = self.cell, len(self.cell.splits[split])
        perfect = floor_limits(cell.estimator, cell.oracles, cell.members, points, reverse)
        scores = self.reverse if reverse else self.scores
        return Gate(metric, limit, getattr(scores[split], statistic), perfect[statistic], earlier)

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
        "do_nothing": _splits(record.do_nothing),
        "nowhere": _splits(record.nowhere),
        "floor": _splits(record.floor),
        "perfect": {split: _numbers(limits) for split, limits in record.perfect.items()},
        "accuracy": _numbers(record.accuracy),
        "accuracy_do_nothing": _numbers(record.accuracy_do_nothing),
        "accuracy_oracle": _numbers(record.accuracy_oracle),
        "seconds": _numbers(record.seconds),
        "relative_cost": _numbers(record.relative_cost),
        "gates": [
            {
                "metric": g.metric,
                "limit": g.limit,
                "value": plain(g.value),
                "perfect": plain(g.perfect),
                "before": g.earlier.value if g.earlier else None,
                "verdict": g.verdict,
            }
            for g in record.gates
        ],
        "verdict": record.verdict,
        "earlier": [
            {
                "epoch": r.epoch,
                "scores": _splits(r.scores),
                "reverse": _splits(r.reverse),
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
