"""A number with its error, and what it says about a limit."""

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

from klom_bench.metrics.summary import plain

CONFIDENCE = 0.95
MOST_ENLARGED = 4.0
Judgement = Literal["pass", "fail", "inconclusive"]


class EstimateJson(TypedDict):
    """A number in records, its standard error, and the ends of its 95 % interval."""

    value: float | None
    se: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and the number of models that the error rests on."""

    value: float
    se: float
    models: int

    def times_error(self, confidence: float) -> float:
        """Student's quantile times the error: how far the truth may lie away on one side."""
        return quantile(confidence, self.models) * self.se

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Two-sided."""
        away = self.times_error((1 + confidence) / 2)
        return self.value - away, self.value + away

    def as_json(self) -> EstimateJson:
        """Plain numbers, null where one is not finite."""
        low, high = self.interval()
        return {
            "value": plain(self.value),
            "se": plain(self.se),
            "low": plain(low),
            "high": plain(high),
        }

    def surely_above(self, limit: float, confidence: float = CONFIDENCE) -> bool:
        """Whether it lies above by more than its error; one-sided, never where it is nan."""
        return self.value - self.times_error(confidence) > limit

    def surely_below(self, limit: float, confidence: float = CONFIDENCE) -> bool:
        """The same downward, with its error as it stands."""
        return self.value + self.times_error(confidence) < limit

    def at_the_limit(self, limit: float) -> "Estimate":
        """The same value with the error that it would have at a limit above it.

        Errors of divergences grow as their square root, so that one judged from a lucky low value
        is too small: passes at the limit were .088 instead of .05 (measured).
        """
        ratio = limit / self.value if self.value > 0 else math.inf
        larger = math.sqrt(min(max(ratio, 1.0), MOST_ENLARGED))
        return Estimate(self.value, self.se * larger, self.models)


def quantile(confidence: float, models: int) -> float:
    """Student's t with models - 1 degrees of freedom; inf for a confidence of 1."""
    from scipy.special import stdtrit  # what only reads records need not wait for it

    return float(stdtrit(models - 1, confidence))


def judged(estimate: Estimate, limit: float, confidence: float = CONFIDENCE) -> Judgement:
    """Whether a value is surely above a limit (fail), surely below it (pass), or neither.

    Each of the two errors is meant to be made in at most 1 - confidence of runs by values that are
    exactly at the limit; at .95 it was counted at up to .07, and once at .09 (`klom help
    calibration`). With a confidence of .5 the value alone decides.
    """
    if estimate.surely_above(limit, confidence):
        return "fail"
    if estimate.at_the_limit(limit).surely_below(limit, confidence):
        return "pass"
    return "inconclusive"


def models_that_settle(
    estimate: Estimate, limit: float, confidence: float = CONFIDENCE
) -> int | None:
    """About the N at which `judged` would be sure, since errors fall as 1 / sqrt(N).

    None where the value is the limit, so that no N is enough.
    """
    gap = abs(estimate.value - limit)
    wide = estimate.at_the_limit(limit) if estimate.value < limit else estimate
    needed = wide.models * (wide.times_error(confidence) / gap) ** 2 if gap else math.inf
    return max(estimate.models, math.ceil(needed)) if math.isfinite(needed) else None
