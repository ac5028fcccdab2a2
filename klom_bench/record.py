"""What is asked and what is answered: the cell and its record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from klom_bench import __version__
from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet
from klom_bench.gates import METRICS, Earlier, Gate, Verdict, overall
from klom_bench.methods.method import Method
from klom_bench.methods.needs import SUBSETS
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.floor import floor_limits, members_needed
from klom_bench.metrics.summary import SPLITS, Summary, plain
from klom_bench.store.layout import EnsembleId
from klom_bench.tasks.task import Task

SCHEMA = 1
Scores = dict[str, Summary]


def plain_setting(value: Any) -> Any:
    """A hyperparameter as JSON (and execnet) can carry it; anything odd in Python's own words."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [plain_setting(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain_setting(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return plain_setting(value.item())
    return str(value)


def what_is_asked(
    task: str,
    forget_set: ForgetSet,
    method: str,
    setting: str,
    members: int,
    oracles: int,
    estimator: Estimator,
    seed: int,
) -> dict[str, Any]:
    """The part of a record in JSON that is known before anything is measured."""
    return {
        "task": task,
        "forget_set": forget_set.name,
        "forget_set_sha256": forget_set.sha256,
        "method": method,
        "setting": setting,
        "members": {"oracle": oracles, "unlearned": members},
        "estimator": {
            "name": estimator.name,
            "direction": estimator.direction,
            "bins": estimator.bins,
            "eps": estimator.eps,
            "clip": estimator.clip,
        },
        "seed": seed,
    }


def _coarse(points: int) -> int:
    """A number of points to two digits: limits hardly differ, and are simulated once."""
    return round(points, 2 - len(str(points)))


def unfit_for(method: Method, task: Task) -> str | None:
    """Why a method applies to no forget set of a task; None where it may."""
    if method.needs_conv and not task.has_conv:
        return (
            f"{method.name} needs conv layers, and models of {task.name} have none "
            "(those of --klom-task=digits_cnn have)"
        )
    return None


@dataclass(frozen=True)
class Cell:
    """Everything that decides a record: members are unlearned models, oracles may be more.

    setting: what is swept, in words. epochs: those after which to score; only the last if there are
    none. tuning: how the settings were found.
    """

    task: Task
    method: Method
    settings: Mapping[str, Any]
    forget_set: ForgetSet
    members: int
    oracles: int
    seed: int
    estimator: Estimator
    device: torch.device
    setting: str = ""
    epochs: tuple[int, ...] = ()
    tuning: Mapping[str, Any] | None = None

    @property
    def original_id(self) -> EnsembleId:
        """The ensemble that is unlearned."""
        return EnsembleId(self.task, "original", self.seed)

    @property
    def oracle_id(self) -> EnsembleId:
        """The ensemble that it should become."""
        return EnsembleId(self.task, "oracle", self.seed, self.forget_set)

    @property
    def subset_id(self) -> EnsembleId:
        """The ensemble that datamodels are estimated from."""
        return EnsembleId(self.task, "subset", self.seed)

    @property
    def subsets(self) -> int:
        """From how many models datamodels are estimated: `subsets`, where the method has that."""
        count = self.settings.get("subsets", SUBSETS)
        if type(count) is not int or count < 2:
            raise KlomError(f"{self.method.name}: subsets must be at least 2, got {count!r}")
        return count

    @property
    def unfit(self) -> str | None:
        """Why the method does not apply here; None where it does."""
        if self.method.class_wise_only and not self.task.is_class(self.forget_set):
            return (
                f"{self.method.name} unlearns whole classes only, and the forget set is none "
                "(class_9 of digits is one)"
            )
        return unfit_for(self.method, self.task)

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Which points belong to which split; train points come first."""
        data, n = self.task.data, self.task.train_points
        val = np.arange(n, n + len(data.y_val))
        return dict(
            zip(SPLITS, (self.forget_set.indices, self.forget_set.retain, val), strict=True)
        )


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

    def as_json(self) -> dict[str, Any]:
        """The contract of DESIGN, in plain JSON values: null where there is no number."""
        cell, est = self.cell, self.cell.estimator

        def numbers(values: Mapping[str, float]) -> dict[str, float | None]:
            return {name: plain(value) for name, value in values.items()}

        def summaries(scores: Scores) -> dict[str, dict[str, float | None]]:
            return {split: summary.as_json() for split, summary in scores.items()}

        asked = what_is_asked(
            cell.task.name, cell.forget_set, cell.method.name, cell.setting, cell.members,
            cell.oracles, est, cell.seed,
        )  # fmt: skip
        return {
            "schema": SCHEMA,
            "version": __version__,
            **asked,
            "hyperparameters": {name: plain_setting(v) for name, v in cell.settings.items()},
            "tuning": cell.tuning,
            "sees_oracles": cell.method.sees_oracles,
            "rests_on": cell.subsets if "datamodels" in cell.method.needs else None,
            "epoch": self.epoch,
            "device": str(cell.device),
            "scores": summaries(self.scores),
            "reverse": summaries(self.reverse),
            "do_nothing": summaries(self.do_nothing),
            "nowhere": summaries(self.nowhere),
            "floor": summaries(self.floor),
            "perfect": {split: numbers(limits) for split, limits in self.perfect.items()},
            "accuracy": numbers(self.accuracy),
            "accuracy_do_nothing": numbers(self.accuracy_do_nothing),
            "accuracy_oracle": numbers(self.accuracy_oracle),
            "seconds": numbers(self.seconds),
            "relative_cost": numbers(self.relative_cost),
            "gates": [
                {
                    "metric": g.metric,
                    "limit": g.limit,
                    "value": plain(g.value),
                    "perfect": plain(g.perfect),
                    "before": g.earlier.value if g.earlier else None,
                    "verdict": g.verdict,
                }
                for g in self.gates
            ],
            "verdict": self.verdict,
            "earlier": [
                {
                    "epoch": r.epoch,
                    "scores": summaries(r.scores),
                    "reverse": summaries(r.reverse),
                    "accuracy": numbers(r.accuracy),
                    "seconds": numbers(r.seconds),
                    "relative_cost": numbers(r.relative_cost),
                }
                for r in self.earlier
            ],
        }
