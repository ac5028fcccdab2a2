"""Is one result better than another? Their difference, with its error.

Models that both results rest on are left out of both together (paired), which takes away what they
share: a small change of a method shows where two runs on other models would hide it. What is not
shared is independent, and counts on either side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from klom_bench.metrics.estimate import Estimate, freedom_of, quantile
from klom_bench.metrics.excess import Jackknife, from_sides
from klom_bench.metrics.resampling import DRAWS

Change = Literal["better", "worse", "no difference"]
Paired = Literal["originals and oracles", "oracles", "originals", "nothing"]
"""What two results share, model by model."""
ALL: Paired = "originals and oracles"
NOTHING: Paired = "nothing"
TWO_SIDED = 0.975
"""Of Student's t, for an interval of 95 %."""
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """Two results of which the lower is better. difference: now less before; its error is nan where
    none is known."""

    before: float
    now: float
    difference: Estimate
    paired: Paired

    @property
    def change(self) -> Change | None:
        """Better or worse where the 95 % interval says so; None where no error is known."""
        low, high = self.difference.interval()
        if math.isnan(low):
            return None
        if low > 0:
            return "worse"
        return "better" if high < 0 else "no difference"

    @property
    def smallest(self) -> float:
        """The change that would have been seen with 80 % power; nan where no error is known."""
        return smallest_seen(self.difference)


def smallest_seen(difference: Estimate, confidence: float = TWO_SIDED) -> float:
    """The change that is told from none in 80 % of runs.

    (t + z) * error; t: Student's quantile of the confidence that is asked for on one side (.975:
    two-sided 5 %), z: the normal one of .8.
    """
    from scipy.special import ndtri  # what only reads records need not wait for it

    t = quantile(confidence, difference.models, difference.draws)
    return (t + float(ndtri(POWER))) * difference.se


def two_sided_p(difference: Estimate) -> float:
    """How often chance alone makes so large a difference; nan where no error is known."""
    from scipy.special import stdtr

    if difference.se == 0:
        return float(difference.value == 0)
    freedom = freedom_of(difference.models, difference.draws)
    return 2 * float(stdtr(freedom, -abs(difference.value / difference.se)))


def paired_by(oracles: bool, originals: bool) -> Paired:
    """The word for what is shared."""
    if oracles:
        return ALL if originals else "oracles"
    return "originals" if originals else NOTHING


def excess_difference(
    now: Jackknife, before: Jackknife, paired: Paired, factor: float = 1.0
) -> Estimate:
    """now - factor * before.

    paired: which models of both are the same, in the same order. Unlearned models are paired where
    they come from the same originals.
    """
    earlier = before * factor
    pairs = (
        (now.without_oracle, earlier.without_oracle, "oracles" in paired),
        (now.without_unlearned, earlier.without_unlearned, "originals" in paired),
    )
    sides: list[np.ndarray] = []
    for a, b, shared in pairs:
        sides += [a - b] if shared else [a, -b]
    return from_sides(now.value - earlier.value, sides)


def apart(now: Estimate, before: Estimate, factor: float = 1.0) -> Estimate:
    """now - factor * before of results that share nothing: squares and cubes of errors add up."""
    b = factor * before.se
    se = math.hypot(now.se, b)
    third = now.skew * now.se**3 - before.skew * b**3
    return Estimate(
        now.value - factor * before.value,
        se,
        min(now.models, before.models),
        third / se**3 if se > 0 else 0.0,
        min(now.draws, before.draws),
    )


def drawn_difference(
    now: Estimate,
    before: Estimate,
    draws: tuple[Sequence[float], Sequence[float]],
    factor: float = 1.0,
) -> Estimate:
    """now - factor * before of means of KLOM of the same models.

    draws: each result's mean on models drawn anew, of both in the same draws.
    """
    a, b = map(np.asarray, draws)
    se = float((a - factor * b).std(ddof=1))
    models = min(now.models, before.models)
    return Estimate(now.value - factor * before.value, se, models, draws=DRAWS)


def surely_different(differences: Sequence[Estimate], level: float = 0.05) -> list[bool]:
    """Which of many differences are there; an error about any is made in so many runs (Holm)."""
    p = [two_sided_p(d) for d in differences]
    found = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: (math.isnan(p[i]), p[i]))):
        if not p[i] <= level / (len(p) - k):
            break
        found[i] = True
    return found
