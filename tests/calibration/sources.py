"""Where margins come from: laws that are known, and subsets of pools of real models.

A source draws (oracles, unlearned), float [n, points] each, for a seeded generator. `splits` says
which columns are whose.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from calibration.pool import Pool
from scipy import stats

FORGET = 50
SPLITS = {
    "forget": np.arange(FORGET),
    "retain": np.arange(FORGET, FORGET + 60),
    "val": np.arange(FORGET + 60, FORGET + 120),
}
SHARED = 0.25
"""Correlation of any two points over the models, before a law bends it."""
LAWS = ("Gaussian", "skewed", "bimodal")
"""A Gaussian; a Gumbel law; two Gaussians of equal weight, 4 of their sd apart."""

REAL: dict[str, Pool] = {}
"""The pool of this process, under the name of its task; set once by whoever starts it."""


@dataclass(frozen=True)
class Simulated:
    """Points of mean 0 and sd 1 of one law, which move together in a model.

    shift: of the unlearned models' forget points, times |z| of a normal number a point, fixed once.
    whole: retain and val, too.
    """

    law: str
    shift: float = 0.0
    shared: float = SHARED
    whole: bool = False

    @property
    def name(self) -> str:
        """For a table."""
        moved = f", moved by {self.shift:g} sd" if self.shift else ", not moved"
        return f"{self.law}{moved}"

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Which points are whose."""
        return SPLITS if self.whole else {"forget": SPLITS["forget"]}

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Oracles and unlearned models, n of each."""
        points = sum(map(len, self.splits.values()))
        own = rng.standard_normal((2 * n, points))
        of_model = rng.standard_normal((2 * n, 1))
        x = math.sqrt(1 - self.shared) * own + math.sqrt(self.shared) * of_model
        x = bent(self.law, x)
        x[n:, :FORGET] += self.shift * np.abs(np.random.default_rng(0).standard_normal(FORGET))
        return x[:n], x[n:]

    draw_anew = draw

    def apart(self, n: int) -> float:
        """What deviations from the mean are to be enlarged by: nothing, every draw is new."""
        return 1.0


def bent(law: str, x: np.ndarray) -> np.ndarray:
    """Normal numbers as numbers of a law of mean 0 and sd 1."""
    return x if law == "Gaussian" else np.interp(x, *_bent(law))


@cache
def _bent(law: str) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of a normal law, and the same quantiles of another of mean 0 and sd 1."""
    normal = np.linspace(-6, 6, 2001)
    if law == "skewed":
        other = stats.gumbel_r.ppf(stats.norm.cdf(normal))
        return normal, (other - np.euler_gamma) / (math.pi / math.sqrt(6))
    x = np.linspace(-8, 8, 4001)
    cdf = (stats.norm.cdf(x + 2) + stats.norm.cdf(x - 2)) / 2
    return normal, np.interp(stats.norm.cdf(normal), cdf, x) / math.sqrt(5)


@dataclass(frozen=True)
class Real:
    """Random subsets of real models; `retrain`: oracles, disjoint from those scored against."""

    method: str
    whole: bool = False

    @property
    def name(self) -> str:
        """For a table."""
        return f"digits, `{self.method}`"

    @property
    def splits(self) -> dict[str, np.ndarray]:
        """Which points are whose."""
        splits = REAL["digits"].splits
        return splits if self.whole else {"forget": splits["forget"]}

    def draw(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Oracles and unlearned models, n of each, none twice."""
        pool = REAL["digits"]
        rows = rng.permutation(len(pool.oracles))
        if self.method == "retrain":
            return pool.oracles[rows[:n]], pool.oracles[rows[n : 2 * n]]
        made = pool.methods[self.method]
        return pool.oracles[rows[:n]], made[rng.permutation(len(made))[:n]]

    def draw_anew(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The same with replacement: of the law that gives each model of the pool equal weight."""
        oracles = REAL["digits"].oracles
        made = oracles if self.method == "retrain" else REAL["digits"].methods[self.method]
        return oracles[rng.integers(0, len(oracles), n)], made[rng.integers(0, len(made), n)]

    def apart(self, n: int) -> float:
        """Subsets of one pool vary less than new models: by sqrt(1 - n / pool), undone here.

        Not so two disjoint subsets, whose means differ as those of new models do.
        """
        if self.method == "retrain":
            return 1.0
        pool = REAL["digits"]
        models = min(len(pool.oracles), len(pool.methods[self.method]))
        return 1 / math.sqrt(1 - n / models)


Source = Simulated | Real


def seeded(*what: object) -> np.random.Generator:
    """A generator for this case and repeat, whoever works on it."""
    return np.random.default_rng(list("/".join(map(str, what)).encode()))
