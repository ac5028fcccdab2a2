"""Two records of one forget set, in their JSON form, beside each other."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import numpy as np

from klom_bench.cell.gates import EXCESS, FREE_OF_N, LEFTOVER, METRICS
from klom_bench.cell.pairing import Pairing, pairing_from
from klom_bench.cell.record_json import Asked, Compared, score_of
from klom_bench.metrics.comparison import (
    ALL,
    NOTHING,
    Comparison,
    apart,
    drawn_difference,
    excess_difference,
)
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.excess import Jackknife
from klom_bench.metrics.resampling import with_error
from klom_bench.metrics.summary import number

Setting = Literal["estimator", "members", "seed", "forget_set_sha256"]
OF_EXCESS: tuple[Setting, ...] = ("forget_set_sha256",)
OF_KLOM: tuple[Setting, ...] = ("estimator", "members", "seed", *OF_EXCESS)


def settings_that_differ(now: Asked, before: Asked, metrics: Collection[str]) -> list[Setting]:
    """Why these metrics of two records cannot be compared.

    Excess and what is left over are the same at every N.
    """
    free = metrics and all(METRICS[metric][2] in FREE_OF_N for metric in metrics)
    return [key for key in (OF_EXCESS if free else OF_KLOM) if before[key] != now[key]]


def compared(now: Compared, before: Compared, metric: str, factor: float = 1.0) -> Comparison:
    """now - factor * before, paired as far as both rest on the same models.

    Without an error for percentiles, whose errors cannot be trusted, and for what older files lack.
    """
    a, b = _told(now, metric), _told(before, metric)
    shared = a.pairing.shared_with(b.pairing) if a.pairing and b.pairing else NOTHING
    if a.left_out and b.left_out:
        difference = excess_difference(a.left_out, b.left_out, shared, factor)
    elif a.draws and b.draws and shared == ALL:
        difference = drawn_difference(a.estimate, b.estimate, (a.draws, b.draws), factor)
    else:
        shared, difference = NOTHING, apart(a.estimate, b.estimate, factor)
    return Comparison(b.estimate.value, a.estimate.value, difference, shared)


def estimate_of(record: Compared, metric: str) -> Estimate:
    """A number with its error, nan where none is known."""
    return _told(record, metric).estimate


def changed_hyperparameters(now: Compared, before: Compared) -> list[str]:
    """What was which value, and is which now."""
    old, new = before["hyperparameters"], now["hyperparameters"]
    return [
        f"{name} {old.get(name)!r} -> {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]


def pairing_in(record: Compared) -> Pairing | None:
    """What a record keeps to be paired by, None in files of earlier versions.

    KeyError, TypeError, ValueError or AttributeError where it is damaged.
    """
    values = {split: number(of["value"]) for split, of in record["excess"].items()}
    return pairing_from(record.get("pairing"), record["members"], values)


@dataclass(frozen=True)
class _Told:
    """A number with its error, nan where none is known, and what it is paired by."""

    estimate: Estimate
    pairing: Pairing | None
    left_out: Jackknife | None = None
    draws: tuple[float, ...] = ()


def _told(record: Compared, metric: str) -> _Told:
    reverse, split, statistic = METRICS[metric]
    pairing, value = pairing_in(record), number(score_of(record, metric))
    models = min(record["members"]["oracle"], record["members"]["unlearned"])
    if statistic == EXCESS:
        of = record["excess"].get(split)
        se, skew = (number(of["se"]), number(of["skew"])) if of else (math.nan, 0.0)
        left_out = pairing.excess.get(split) if pairing else None
        return _Told(Estimate(value, se, models, skew), pairing, left_out)
    if statistic == LEFTOVER:
        left = record["leftover"]["estimate"] if record["leftover"] else None
        se, skew = (number(left["se"]), number(left["skew"])) if left else (math.nan, 0.0)
        return _Told(Estimate(value, se, models, skew), None)
    name = "reverse_mean" if reverse else "mean"
    if statistic == "mean" and pairing and split in pairing.draws:
        draws = pairing.draws[split][name]
        return _Told(with_error(value, float(np.std(draws, ddof=1)), models), pairing, None, draws)
    return _Told(with_error(value, math.nan, models), pairing)
