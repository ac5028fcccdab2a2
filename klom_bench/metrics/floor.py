"""The noise floor: what a perfect unlearner scores because N is finite."""

from bisect import bisect_left
from functools import lru_cache

import numpy as np

from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.klom import klom
from klom_bench.metrics.summary import STATISTICS, Summary, summarise

DRAWS = 4_000_000  # margins simulated for one floor: 20,000 points at N = 100
MOST_POINTS = 20_000
SEED = 0
SIZES = [10]  # numbers of members that `members_needed` considers, in steps of 25 %
while SIZES[-1] < 6400:
    SIZES.append(-(-SIZES[-1] * 5 // 4))


@lru_cache(maxsize=64)
def floor_scores(estimator: Estimator, oracles: int, members: int) -> np.ndarray:
    """KLOM of simulated points whose oracle and unlearned margins follow one law.

    float64 [20,000, or fewer beyond N = 100], nats. The law is a Gaussian. At N = 100
    Laplace, t and Gumbel laws agree with it within 11 % in the mean and 7 % in P95, a uniform law
    lies a third lower, and retrained models of `digits` agree within 6 % (all measured). Seeded,
    so always the same.
    """
    rng = np.random.default_rng([SEED, oracles, members])
    points = min(MOST_POINTS, DRAWS // (oracles + members))
    sizes = [min(1000, points - start) for start in range(0, points, 1000)]
    pool = np.concatenate(
        [
            klom(rng.standard_normal((oracles, n)), rng.standard_normal((members, n)), estimator)
            for n in sizes
        ]
    )
    pool.flags.writeable = False
    return pool


def floor(estimator: Estimator, oracles: int, members: int) -> Summary:
    """The expected summary of a perfect unlearner at this N of either side."""
    return summarise(floor_scores(estimator, oracles, members))


@lru_cache(maxsize=256)
def floor_quantiles(
    estimator: Estimator, oracles: int, members: int, points: int
) -> dict[str, tuple[float, float, float]]:
    """Where a perfect unlearner's summaries over this many points lie, for each statistic.

    Values are the 2.5 %, 95 % and 97.5 % quantiles. Points are taken as independent; the fewer
    they are, the wider the range.
    """
    pool = floor_scores(estimator, oracles, members)
    rng = np.random.default_rng([SEED, oracles, members, points])
    draws = int(np.clip(4_000_000 // points, 200, 4000))
    sample = pool[rng.integers(0, len(pool), (draws, points))]
    percentiles = np.percentile(sample, [50, 95, 99], axis=1)
    values = dict(zip(STATISTICS, [sample.mean(1), *percentiles], strict=True))
    return {
        name: (float(q[0]), float(q[1]), float(q[2]))
        for name, value in values.items()
        for q in [np.quantile(value, [0.025, 0.95, 0.975])]
    }


def members_needed(estimator: Estimator, points: int, statistic: str, limit: float) -> int | None:
    """The smallest N (both sides, in steps of 25 %) at which the limit can be told from noise.

    None where not even N = 6,400 or so is enough.
    """

    def enough(n: int) -> bool:
        return floor_quantiles(estimator, n, n, points)[statistic][1] <= limit

    found = bisect_left(SIZES, True, key=enough)  # the floor falls with N
    return SIZES[found] if found < len(SIZES) else None
