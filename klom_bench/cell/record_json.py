"""A record as files and reports have it: plain JSON values, null where there is no number.

Needs no torch, so that what only reads records is quick.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal, TypedDict, final

import numpy as np

from klom_bench.cell.gates import EXCESS, LEFTOVER, METRICS, Verdict
from klom_bench.cell.pairing import PairingJson
from klom_bench.forget_set import ForgetSet
from klom_bench.metrics.comparison import Paired
from klom_bench.metrics.estimate import EstimateJson
from klom_bench.metrics.estimators import Estimator, EstimatorJson
from klom_bench.metrics.excess import ExcessJson
from klom_bench.metrics.leftover import LeftoverJson, Why
from klom_bench.metrics.nearer import NearerJson
from klom_bench.metrics.permutation import RetrainedJson
from klom_bench.metrics.word import Word, WordAlone

SCHEMA = 1
Numbers = dict[str, float | None]
Splits = dict[str, Numbers]
"""By split, then by statistic."""


class OfTest(TypedDict):
    """Which test a record is of; `setting` is what is swept of the hyperparameters."""

    task: str
    forget_set: str
    method: str
    setting: str


class OfMethod(OfTest):
    """The same, and what marks the method in tables."""

    sees_oracles: bool
    rests_on: int | None


class Counts(TypedDict):
    """Models on either side."""

    oracle: int
    unlearned: int


class Asked(OfTest):
    """What is known before anything is measured."""

    forget_set_sha256: str
    members: Counts
    estimator: EstimatorJson
    seed: int


class Scored(TypedDict):
    """Summaries of both divergences."""

    scores: Splits
    reverse: Splits


class WithExcess(TypedDict):
    """Empty with fewer than five models a side. leftover: None then, and without originals."""

    excess: dict[str, ExcessJson]
    leftover: LeftoverJson | None


class Judged(WithExcess):
    """What else margins say. points: their numbers, a split. quantiles: of KLOM, by split. errors:
    of mean, p95, reverse_mean and reverse_p95, by split. highest: KLOM of the worst point."""

    points: dict[str, int]
    quantiles: Splits
    errors: dict[str, dict[str, EstimateJson]]
    highest: Numbers
    excess_do_nothing: dict[str, ExcessJson]
    nearer: dict[str, NearerJson]
    retrained: RetrainedJson | None
    word: Word | WordAlone
    word_is_provisional: bool
    below_floor: list[str]


class Compared(Asked, Scored, WithExcess):
    """What a baseline keeps. In files of earlier versions epoch, leftover and pairing are None, and
    excess is empty."""

    hyperparameters: dict[str, Any]
    epoch: int | None
    device: str
    pairing: PairingJson | None


class RiseJson(EstimateJson):
    """Now less before. over: now less what is allowed. smallest: the rise above that which fails in
    80 % of runs. paired: what both share. models: those that the errors rest on."""

    over: EstimateJson
    smallest: float | None
    paired: Paired
    models: int


class GateJson(TypedDict):
    """A limit held against a number.

    low, high: what it surely lies above and below, each with this confidence; null where the number
    alone decides, as is se, the standard error. early: more models might have come. family: how
    many gates are judged together. settled_at: about the N that would settle it. before: the
    baseline's number; allowed: the rise; changed: hyperparameters that are others now;
    rise: from before to now, null where no error is known. why: of
    no number, as `Leftover` has it.
    """

    metric: str
    limit: float
    value: float | None
    se: float | None
    skew: float | None
    low: float | None
    high: float | None
    confidence: float | None
    early: bool
    family: int
    settled_at: int | None
    perfect: float | None
    perfect_by: Literal["permuted models"] | None
    before: float | None
    allowed: str | None
    baseline: str | None
    changed: list[str]
    rise: RiseJson | None
    why: Why | None
    verdict: Verdict


class LooksJson(TypedDict):
    """Numbers of models at which gates were to be looked at, and how many looks were made."""

    sizes: list[int]
    made: int
    stopped: Literal["settled", "maximum", "budget"]


class PointJson(TypedDict):
    """A point and its KLOM."""

    point: int
    klom: float | None


class HistogramJson(TypedDict):
    """How many models have a margin of one point in each bin; null where there are no originals."""

    point: int
    edges: list[float]
    oracles: list[int]
    originals: list[int] | None
    unlearned: list[int]


class WithoutScoreJson(TypedDict):
    """How many points have no score, and the first of them."""

    points: int
    first: int | None


class PerPointJson(TypedDict):
    """KLOM and its reverse of every point, and which points belong to which split."""

    klom: list[float | None]
    reverse: list[float | None]
    splits: dict[str, list[int]]


class EpochJson(Scored, Judged):
    """What an earlier epoch of the same run scored."""

    epoch: int | None
    accuracy: Numbers
    seconds: Numbers
    relative_cost: Numbers


@final
class RecordJson(Compared, Judged, OfMethod):
    """`extra_info["klom"]` of a benchmark JSON; changing a name raises SCHEMA, a new one does not.

    worst: the five points with the highest KLOM, by split. histograms: of those of the forget set.
    per_point: null but where it is asked for.
    """

    schema: int
    version: str
    tuning: Mapping[str, Any] | None
    do_nothing: Splits
    do_nothing_reverse: Splits
    nowhere: Splits
    floor: Splits
    floor_reverse: Splits
    perfect: Splits
    accuracy: Numbers
    accuracy_do_nothing: Numbers
    accuracy_oracle: Numbers
    seconds: Numbers
    relative_cost: Numbers
    worst: dict[str, list[PointJson]]
    histograms: list[HistogramJson]
    without_score: WithoutScoreJson
    per_point: PerPointJson | None
    gates: list[GateJson]
    verdict: Verdict
    looks: LooksJson | None
    earlier: list[EpochJson]


@final
class UnfitJson(OfMethod):
    """In place of a record, where a method does not apply: why."""

    unfit: str


Row = RecordJson | UnfitJson


def plain_value(value: Any) -> Any:
    """A hyperparameter as JSON (and execnet) can carry it; anything odd in Python's own words."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [plain_value(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain_value(v) for k, v in value.items()}
    if isinstance(value, np.generic):
        return plain_value(value.item())
    return str(value)


def asked(
    task: str,
    forget_set: ForgetSet,
    method: str,
    variant: str,
    members: int,
    oracles: int,
    estimator: Estimator,
    seed: int,
) -> Asked:
    """The part of a record that is known before anything is measured."""
    return {
        "task": task,
        "forget_set": forget_set.name,
        "forget_set_sha256": forget_set.sha256,
        "method": method,
        "setting": variant,
        "members": {"oracle": oracles, "unlearned": members},
        "estimator": estimator.as_json(),
        "seed": seed,
    }


def score_of(record: Compared, metric: str) -> float | None:
    """One number of a record; None where there is none."""
    reverse, split, statistic = METRICS[metric]
    if statistic == LEFTOVER:
        of = record["leftover"]
        return of["estimate"]["value"] if of and of["estimate"] else None
    if statistic == EXCESS:
        excess = record["excess"]
        return excess[split]["value"] if split in excess else None
    return (record["reverse"] if reverse else record["scores"])[split][statistic]


def error_of(record: Judged, metric: str) -> EstimateJson | None:
    """One number with its interval, approximate for percentiles; None where none is known."""
    reverse, split, statistic = METRICS[metric]
    if statistic == LEFTOVER:
        return record["leftover"]["estimate"] if record["leftover"] else None
    if statistic == EXCESS:
        return record["excess"].get(split)
    return record["errors"][split].get("reverse_" * reverse + statistic)


def test_of(record: OfTest) -> tuple[str, str, str]:
    """Task, forget set and method with what is swept: which test a record is of."""
    setting = record["setting"]
    method = f"{record['method']}:{setting}" if setting else record["method"]
    return record["task"], record["forget_set"], method


def name_of(record: OfTest) -> str:
    """The same as text, as in the test's id."""
    return "-".join(test_of(record))
