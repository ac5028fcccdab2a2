"""A record as files and reports have it: plain JSON values, null where there is no number.

Needs no torch, so that what only reads records is quick.
"""

import math
from collections.abc import Mapping
from typing import Any, TypedDict, final

import numpy as np

from klom_bench.cell.gates import METRICS, Verdict
from klom_bench.forget_set import ForgetSet
from klom_bench.metrics.estimators import Estimator, EstimatorJson

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


class Compared(Asked, Scored):
    """What a baseline keeps. epoch: None in files of earlier versions."""

    hyperparameters: dict[str, Any]
    epoch: int | None
    device: str


class GateJson(TypedDict):
    """A limit held against a score."""

    metric: str
    limit: float
    value: float | None
    perfect: float | None
    before: float | None
    verdict: Verdict


class EpochJson(Scored):
    """What an earlier epoch of the same run scored."""

    epoch: int | None
    accuracy: Numbers
    seconds: Numbers
    relative_cost: Numbers


@final
class RecordJson(Compared, OfMethod):
    """`extra_info["klom"]` of a benchmark JSON; changing a name raises SCHEMA."""

    schema: int
    version: str
    tuning: Mapping[str, Any] | None
    do_nothing: Splits
    nowhere: Splits
    floor: Splits
    perfect: Splits
    accuracy: Numbers
    accuracy_do_nothing: Numbers
    accuracy_oracle: Numbers
    seconds: Numbers
    relative_cost: Numbers
    gates: list[GateJson]
    verdict: Verdict
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


def score_of(record: Scored, metric: str) -> float | None:
    """One score of a record."""
    reverse, split, statistic = METRICS[metric]
    return (record["reverse"] if reverse else record["scores"])[split][statistic]


def test_of(record: OfTest) -> tuple[str, str, str]:
    """Task, forget set and method with what is swept: which test a record is of."""
    setting = record["setting"]
    method = f"{record['method']}:{setting}" if setting else record["method"]
    return record["task"], record["forget_set"], method


def name_of(record: OfTest) -> str:
    """The same as text, as in the test's id."""
    return "-".join(test_of(record))
