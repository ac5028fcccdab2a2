"""What is answered: scores, times and verdict of one cell, as plain values.

Needs no torch, so that what only reads records is quick.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from klom_bench import __version__
from klom_bench.cell.gates import (
    EXCESS,
    LEFTOVER,
    METRICS,
    Earlier,
    Gate,
    Verdict,
    overall,
    refuse_too_few,
)
from klom_bench.cell.pairing import Pairing
from klom_bench.cell.record_json import RecordJson, UnfitJson
from klom_bench.errors import KlomError
from klom_bench.metrics.estimate import CONFIDENCE, Estimate
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.leftover import Leftover
from klom_bench.metrics.nearer import Nearer
from klom_bench.metrics.permutation import Retrained
from klom_bench.metrics.summary import SPLITS, Summary
from klom_bench.metrics.word import SETTLED, Word, WordAlone

Scores = Mapping[str, Summary]
"""By split."""
Stopped = Literal["settled", "maximum", "budget"]
NONE = dict.fromkeys(SPLITS, math.nan)


@dataclass(frozen=True, kw_only=True)
class Excess(Estimate):
    """Excess of a split. cut: with margins cut to three robust standard deviations; nan of doing
    nothing."""

    reverse: Estimate
    cut: float = math.nan

    @property
    def plain(self) -> Estimate:
        """The number and its error alone, as gates in JSON have it."""
        return Estimate(self.value, self.se, self.models, self.skew)


@dataclass(frozen=True)
class Histogram:
    """How many models have a margin of one point in each bin; edges are one more than bins.

    originals: None where there are none.
    """

    point: int
    edges: tuple[float, ...]
    oracles: tuple[int, ...]
    originals: tuple[int, ...] | None
    unlearned: tuple[int, ...]


@dataclass(frozen=True)
class Looks:
    """The numbers of models at which gates were to be looked at, how many looks were made, and why
    no more."""

    sizes: tuple[int, ...]
    made: int
    stopped: Stopped


@dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """What one cell leaves behind: plain values, and per-point scores where they were kept.

    Mappings are by split (forget, retain, val) unless told otherwise; nan stands where there is no
    number. Two records are equal where their JSON is.

    Args:
        task, forget_set, forget_set_sha256, method: of the cell.
        setting: what is swept of the hyperparameters, in words.
        members, oracles: models on either side.
        estimator, seed, hyperparameters, epoch, device: with which it was measured.
        tuning: how the hyperparameters were found.
        sees_oracles: the method is given what it is scored against.
        rests_on: models on random halves that the method was given.
        scores, reverse: KLOM and its reverse.
        do_nothing, do_nothing_reverse: those of the originals.
        nowhere: what models score that are nowhere near the oracles, about the most there is.
        floor, floor_reverse: what a perfect unlearner scores.
        perfect: what its scores stay below in 95 % of runs, by statistic.
        counts: points.
        quantiles: of KLOM: p5, p25, p50, p75, p95, p99, p100.
        errors: of `mean`, `p95`, `reverse_mean` and `reverse_p95`.
        highest: KLOM of the worst point.
        excess, excess_do_nothing: empty with fewer than five models a side.
        nearer: whether nearer to the oracles than the originals are; empty where `excess` is, and
            where originals are not known.
        leftover: how much of the forget set's mean shift is left; None likewise.
        retrained: p-values of tests whether these could be retrained models.
        word: what the method did.
        below_floor: splits that score lower than retrained models would.
        worst: the five points with the highest KLOM, (point, KLOM).
        histograms: margins of the five worst forget points.
        without_score: how many points have none, and the first of them.
        accuracy, accuracy_do_nothing, accuracy_oracle: shares of right answers.
        seconds, relative_cost: by what they are of; the cost is a part of training afresh on R:
            `time` measured, `examples` counted.
        pairing: what pairs it with a record of the same models; None in those of older versions.
        gates: limits held against numbers of this record.
        looks: None where there was to be one only.
        earlier: after earlier epochs of the same run.
        points, reverse_points: KLOM and its reverse of every point, float64 [points], train first;
            None where they were not kept.
        splits: int64, which points belong to which; None likewise.
        version: of klom-bench.

    Example:
        >>> from klom_bench import Record, run
        >>> (record,) = run("digits", "do_nothing", forget_sets=3, models=2)
        >>> record.verdict, record.counts
        ('none', {'forget': 100, 'retain': 1338, 'val': 359})
        >>> float(record.points[record.splits["val"]].mean()) == record.scores["val"].mean
        True
        >>> Record.from_json(record.to_json()) == record
        True
    """

    task: str
    forget_set: str
    forget_set_sha256: str
    method: str
    setting: str
    members: int
    oracles: int
    estimator: Estimator
    seed: int
    scores: Scores
    reverse: Scores
    do_nothing: Scores
    do_nothing_reverse: Scores
    nowhere: Scores
    floor: Scores
    floor_reverse: Scores
    perfect: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, int]
    quantiles: Mapping[str, Mapping[str, float]]
    errors: Mapping[str, Mapping[str, Estimate]]
    highest: Mapping[str, float]
    excess: Mapping[str, Excess]
    excess_do_nothing: Mapping[str, Excess]
    retrained: Retrained | None
    word: Word | WordAlone
    nearer: Mapping[str, Nearer] = field(default_factory=dict)
    leftover: Leftover | None = None
    below_floor: tuple[str, ...] = ()
    worst: Mapping[str, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    histograms: tuple[Histogram, ...] = ()
    without_score: tuple[int, int | None] = (0, None)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    tuning: Mapping[str, Any] | None = None
    sees_oracles: bool = False
    rests_on: int | None = None
    epoch: int | None = None
    device: str = "cpu"
    version: str = __version__
    accuracy: Mapping[str, float] = field(default_factory=NONE.copy)
    accuracy_do_nothing: Mapping[str, float] = field(default_factory=NONE.copy)
    accuracy_oracle: Mapping[str, float] = field(default_factory=NONE.copy)
    seconds: Mapping[str, float] = field(
        default_factory=lambda: dict.fromkeys(("unlearn", "per_member", "retrain"), math.nan)
    )
    relative_cost: Mapping[str, float] = field(
        default_factory=lambda: dict.fromkeys(("time", "examples"), math.nan)
    )
    pairing: Pairing | None = None
    gates: tuple[Gate, ...] = ()
    looks: Looks | None = None
    earlier: "tuple[Record, ...]" = ()
    points: np.ndarray | None = None
    reverse_points: np.ndarray | None = None
    splits: Mapping[str, np.ndarray] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self.to_json() == other.to_json()

    @property
    def verdict(self) -> Verdict:
        """Of all gates together."""
        return overall(self.gates)

    @property
    def word_is_provisional(self) -> bool:
        """Whether there are so few models that more than 1 in 20 words may be wrong."""
        return min(self.oracles, self.members) < SETTLED

    @property
    def unfit(self) -> None:
        """A record is of a method that applies; `NotApplicable` says here why one does not."""
        return

    def without_points(self) -> "Record":
        """The same without per-point scores, which are most of it where points are many."""
        return replace(self, points=None, reverse_points=None, splits=None)

    def of_an_earlier_epoch(self) -> "Record":
        """The same as a later one holds it: summaries alone."""
        bare = replace(self.without_points(), gates=(), earlier=(), pairing=None)
        return replace(bare, worst={}, histograms=(), without_score=(0, None))

    def value(self, metric: str) -> float:
        """One number, as limits name it: forget_p95, reverse_val_mean, retain_excess.

        In nats, but forget_leftover in per cent, which is nan where there is no number. KlomError
        for excess and what is left over of too few models, or without originals.
        """
        reverse, split, statistic = METRICS[metric]
        if statistic == LEFTOVER:
            of = self._left_over(metric).estimate
            return of.value if of else math.nan
        if statistic == EXCESS:
            refuse_too_few([metric], min(self.oracles, self.members))
            return self.excess[split].value
        return float(getattr((self.reverse if reverse else self.scores)[split], statistic))

    def gate(
        self,
        metric: str,
        limit: float,
        perfect: float | None,
        earlier: Earlier | None = None,
        confidence: float = CONFIDENCE,
        early: bool = False,
    ) -> Gate:
        """One number held against a limit; `perfect` and `early` as in `Gate`."""
        reverse, split, statistic = METRICS[metric]
        value, why = self.value(metric), None
        estimate: Estimate | None = None
        if statistic == LEFTOVER:
            of = self._left_over(metric)
            estimate, why = of.estimate, of.why
            confidence = CONFIDENCE if why else confidence
        elif statistic == EXCESS:
            estimate = self.excess[split].plain
        elif statistic == "mean" or (early and statistic == "p95"):
            estimate = self.errors[split]["reverse_" * reverse + statistic]
        else:
            confidence = CONFIDENCE  # the number alone decides
        return Gate(metric, limit, value, perfect, earlier, estimate, confidence, early, why=why)

    def _left_over(self, metric: str) -> Leftover:
        refuse_too_few([metric], min(self.oracles, self.members))
        if self.leftover is None:
            raise KlomError(
                f"{metric} is of what was done to the originals, and they are not known of "
                f"{self.method} on {self.forget_set}"
            )
        return self.leftover

    def to_json(self) -> RecordJson:
        """The record in JSON values, as the schema that `klom help schema` prints says."""
        from klom_bench.cell.record_to_json import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        """The record that `to_json` wrote; KlomError for anything else."""
        from klom_bench.cell.record_from_json import from_json

        return from_json(content)


@dataclass(frozen=True)
class NotApplicable:
    """In place of a record, where a method does not apply: `unfit` says why."""

    task: str
    forget_set: str
    method: str
    setting: str
    sees_oracles: bool
    unfit: str

    def to_json(self) -> UnfitJson:
        """The row that stands in tables."""
        return {
            "task": self.task,
            "forget_set": self.forget_set,
            "method": self.method,
            "setting": self.setting,
            "sees_oracles": self.sees_oracles,
            "rests_on": None,
            "unfit": self.unfit,
        }
