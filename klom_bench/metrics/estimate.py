"""A number with its error, and what it says about a limit."""

import math
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from klom_bench.metrics.summary import plain

CONFIDENCE = 0.95
MOST_ENLARGED = 4.0
Judgement = Literal["pass", "fail", "inconclusive"]


class EstimateJson(TypedDict):
    """A number in records, its standard error, the ends of its 95 % interval, and its skewness."""

    value: float | None
    se: float | None
    low: float | None
    high: float | None
    skew: float | None


@dataclass(frozen=True)
class Estimate:
    """A value, its standard error, and the number of models that the error rests on.

    skew: third standardised moment of the value over repeats, as far as single models make it.
    draws: repeats that the error was reckoned from, where it was drawn.
    """

    value: float
    se: float
    models: int
    skew: float = 0.0
    draws: float = math.inf

    def times_error(self, confidence: float) -> float:
        """Student's quantile times the error: how far the truth may lie away on one side."""
        return quantile(confidence, self.models, self.draws) * self.se

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
            "skew": plain(self.skew),
        }

    def surely_above(self, limit: float, confidence: float = CONFIDENCE) -> bool:
        """Whether it lies above by more than its error; one-sided, never where it is nan."""
        return self.value - self.times_error(confidence) > limit

    def surely_below(self, limit: float, confidence: float = CONFIDENCE) -> bool:
        """The same downward, with its error as it stands."""
        return self.value + self.times_error(confidence) < limit

    def at_the_limit(self, limit: float) -> "Estimate":
        """The same value with the error that it would have at a limit above it.

        A value low by luck has too small an error. Errors of divergences grow as their square root:
        passes at the limit were .09 to .14 without this (measured, Gaussian margins). And
        where few models that went wrong make the value, a repeat with fewer of them is low and
        looks sure: the square of the error of a sum falls with it at the rate skew * error, their
        covariance over the sum's variance. Passes were up to .12 without this, and are .07 with
        it (measured, `finetune` and `ga` of `digits`); where skew is 0 nothing changes.
        """
        ratio = limit / self.value if self.value > 0 else math.inf
        divergence = self.se**2 * min(max(ratio, 1.0), MOST_ENLARGED)
        wrong = self.se * max(self.skew, 0.0) * max(limit - self.value, 0.0)
        return replace(self, se=math.sqrt(divergence + wrong))


def quantile(confidence: float, models: int, draws: float = math.inf) -> float:
    """Student's t with models - 1 degrees of freedom; inf for a confidence of 1, nan for one model.

    An error that was itself drawn has fewer, 1 / (1 / (models - 1) + 1 / (draws - 1)).
    """
    from scipy.special import stdtrit  # what only reads records need not wait for it

    return float(stdtrit(freedom_of(models, draws), confidence))


def freedom_of(models: int, draws: float = math.inf) -> float:
    """Degrees of freedom of an error."""
    return 1 / (1 / (models - 1) + 1 / (draws - 1)) if models > 1 else 0.0


def judged(estimate: Estimate, limit: float, confidence: float = CONFIDENCE) -> Judgement:
    """Whether a value is surely above a limit (fail), surely below it (pass), or neither.

    Each of the two errors is meant to be made in at most 1 - confidence of runs by values that are
    exactly at the limit; at .95 it was counted at up to .07 on known laws and on `digits`,
    and at more where one model in hundreds makes most of the error: a run without it cannot know
    (`klom help calibration`). With a confidence of .5 the value alone decides.
    """
    if estimate.surely_above(limit, confidence):
        return "fail"
    if estimate.at_the_limit(limit).surely_below(limit, confidence):
        return "pass"
    return "inconclusive"


def doubt(estimate: Estimate, limit: float) -> float:
    """The p-value of the surer of two claims, that the truth is above a limit or below: what
    `judged` claims at every confidence below 1 less this."""
    below = estimate.at_the_limit(limit)
    return min(
        doubt_above(estimate, limit),
        doubt_above(replace(below, value=2 * limit - below.value), limit),  # as far on this side
    )


def doubt_above(estimate: Estimate, limit: float) -> float:
    """The p-value of the claim that the truth is above a limit; 1 where there is no number."""
    from scipy.special import stdtr  # what only reads records need not wait for it

    away = estimate.value - limit
    t = math.copysign(math.inf, away) if estimate.se == 0 else away / estimate.se
    if math.isnan(t):
        return 1.0
    return float(stdtr(freedom_of(estimate.models, estimate.draws), -t))


def models_that_settle(
    estimate: Estimate, limit: float, confidence: float = CONFIDENCE
) -> int | None:
    """About the N from this one on at which `judged` would be sure; None where no N is enough."""
    needed = about_as_many(estimate, limit, confidence)
    return None if needed is None else max(estimate.models, needed)


def about_as_many(estimate: Estimate, limit: float, confidence: float = CONFIDENCE) -> int | None:
    """About the N that would do, be it fewer: errors fall as 1 / sqrt(N).

    None where the value is the limit, so that no N is enough.
    """
    gap = abs(estimate.value - limit)
    wide = estimate.at_the_limit(limit) if estimate.value < limit else estimate
    needed = wide.models * (wide.times_error(confidence) / gap) ** 2 if gap else math.inf
    return math.ceil(needed) if math.isfinite(needed) else None
