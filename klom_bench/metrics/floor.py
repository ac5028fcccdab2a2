"""The noise floor: what a perfect unlearner scores because N is finite."""

from bisect import bisect_left
from functools import lru_cache

import numpy as np

from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.metrics.summary import STATISTICS, Summary, summarise

DRAWS = 4_000_000  # margins simulated for one floor: 20,000 points at N = 100
MOST_POINTS = 20_000
SEED = 0
SIZES = [10]  # numbers of members that `members_needed` considers, in steps of 25 %
while SIZES[-1] < 6400:
    SIZES.append(-(-SIZES[-1] * 5 // 4))


def floor_scores(
    estimator: Estimator, oracles: int, members: int, reverse: bool = False
) -> np.ndarray:
    """KLOM of simulated points whose oracle and unlearned margins follow one law.

    float64 [20,000, or fewer beyond N = 100], nats. The law is a Gaussian. At N = 100
    Laplace, t and Gumbel laws agree with it within 11 % in the mean and 7 % in P95, a uniform law
    lies a third lower, and retrained models of `digits` agree within 6 % (all measured). Seeded,
    so always the same.
    """
    return both_ways(estimator, oracles, members)[reverse]


@lru_cache(maxsize=64)
def both_ways(estimator: Estimator, oracles: int, members: int) -> tuple[np.ndarray, np.ndarray]:
    """`floor_scores` and those of the reverse, of the same margins."""
    rng = np.random.default_rng([SEED, oracles, members])
    points = int(np.clip(DRAWS // (oracles + members), 100, MOST_POINTS))
    sizes = [min(1000, points - start) for start in range(0, points, 1000)]
    parts = [
        klom_and_reverse(
            rng.standard_normal((oracles, n)), rng.standard_normal((members, n)), estimator
        )
        for n in sizes
    ]
    forward, reverse = (np.concatenate(one) for one in zip(*parts, strict=True))
    forward.flags.writeable = reverse.flags.writeable = False
    return forward, reverse


def floor(estimator: Estimator, oracles: int, members: int, reverse: bool = False) -> Summary:
    """The expected summary of a perfect unlearner at this N of either side."""
    return summarise(floor_scores(estimator, oracles, members, reverse))


@lru_cache(maxsize=256)
def floor_limits(
    estimator: Estimator, oracles: int, members: int, points: int, reverse: bool = False
) -> dict[str, float]:
    """What a perfect unlearner's statistics over this many points stay below in 95 % of runs.

    Points are taken as independent; the fewer they are, the further the limit from the floor.
    """
    pool = floor_scores(estimator, oracles, members, reverse)
    rng = np.random.default_rng([SEED, oracles, members, points])
    # Over many points the statistics hardly vary, so fewer draws tell their limits as well.
    draws = int(np.clip((4_000_000 if points <= 2000 else 1_500_000) // points, 60, 4000))
    sample = pool[rng.integers(0, len(pool), (draws, points))]
    values = [sample.mean(1), *np.percentile(sample, [50, 95, 99], axis=1)]
    limits = (float(np.quantile(value, 0.95)) for value in values)
    return dict(zip(STATISTICS, limits, strict=True))


def members_needed(
    estimator: Estimator, points: int, statistic: str, limit: float, reverse: bool = False
) -> int | None:
    """The smallest N (both sides, in steps of 25 %) at which the limit can be told from noise.

    None where not even N = 6,400 or so is enough.
    """

    def enough(n: int) -> bool:
        return floor_limits(estimator, n, n, points, reverse)[statistic] <= limit

    found = bisect_left(SIZES, True, key=enough)  # the floor falls with N
    return SIZES[found] if found < len(SIZES) else None
