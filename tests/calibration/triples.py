"""Three ensembles at a time: oracles, originals, and models made of them, row by row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from calibration.sources import REAL, SHARED, bent
from scipy.optimize import brentq

from klom_bench.metrics.excess import HIGHEST

SIZES = (20, 50, 100)
POINTS = 50
TOGETHER = 0.9
"""Correlation of a simulated model with the original that it was made of."""
METHODS = (
    "ga lr=0.04",
    "random_label",
    "salun",
    "neggrad_plus",
    "ga",
    "finetune",
    "scrub",
    "eu_k",
    "influence",
)
FORGET_SETS = ("forget_set_2", "forget_set_5")
ORIGINALS, ORACLES, SEED = 400, 800, 7
Three = tuple[np.ndarray, np.ndarray, np.ndarray]


def pool_of(forget_set: str) -> str:
    """The name of its pool."""
    return f"beside, {forget_set}"


def divergence(oracle: np.ndarray, unlearned: np.ndarray) -> float:
    """The excess of laws that give each of these models equal weight."""
    s, t = oracle.var(0), unlearned.var(0)
    gap = (oracle.mean(0) - unlearned.mean(0)) ** 2
    found = (np.log(t / s) + (s + gap) / t - 1) / 2
    return float(np.minimum(found, HIGHEST).mean())


@dataclass(frozen=True)
class OfLaw:
    """Simulated: originals are `shift` times |z| sd away from the oracles, z a normal number a
    point, and what was made of them `left` times as much."""

    law: str
    shift: float
    left: float

    @property
    def name(self) -> str:
        """For a table."""
        moved = f"{self.shift:g} sd, {100 * self.left:g} % of it left"
        return f"{self.law}, moved by {moved if self.left >= 0 else f'{self.shift:g} sd, mirrored'}"

    @property
    def excess(self) -> tuple[float, float]:
        """Of doing nothing, and of what was made, with models without end."""
        squares = float((self._line**2).mean())
        return squares / 2, squares * self.left**2 / 2

    @property
    def line(self) -> float:
        """Per cent of the mean shift that are left."""
        return 100 * self.left

    @property
    def _line(self) -> np.ndarray:
        found: np.ndarray = self.shift * np.abs(np.random.default_rng(0).standard_normal(POINTS))
        return found

    def draw(self, rng: np.random.Generator, n: int) -> Three:
        """n of each."""

        def noise() -> np.ndarray:
            own, of_model = rng.standard_normal((n, POINTS)), rng.standard_normal((n, 1))
            found: np.ndarray = math.sqrt(1 - SHARED) * own + math.sqrt(SHARED) * of_model
            return found

        before = noise()
        after = TOGETHER * before + math.sqrt(1 - TOGETHER**2) * noise()
        o, x, u = (bent(self.law, z) for z in (noise(), before, after))
        return o, x + self._line, u + self.left * self._line


@dataclass(frozen=True)
class OfPool:
    """Models of a pool, drawn with replacement, so that every repeat is new. made: a method, or a
    design in which the models are as far from the oracles as the originals are."""

    forget_set: str
    made: str
    split: str = "forget"

    @property
    def name(self) -> str:
        """For a table."""
        made = self.made if self.made in EQUAL else f"`{self.made}`"
        return f"{made}, {self.forget_set}" + ("" if self.split == "forget" else f", {self.split}")

    @property
    def all(self) -> Three:
        """The whole pool."""
        return all_of(self)

    @property
    def excess(self) -> tuple[float, float]:
        """Of doing nothing, and of what was made, by all models."""
        o, x, u = self.all
        return divergence(o, x), divergence(o, u)

    @property
    def line(self) -> float:
        """Per cent of the mean shift that are left, by all models."""
        return _line(*self.all)

    def draw(self, rng: np.random.Generator, n: int) -> Three:
        """n of each; of pairs the same rows, but for another draw of originals."""
        o, x, u = self.all
        pairs = rng.integers(0, len(x), n)
        others = rng.integers(0, len(u), n) if self.made == ANOTHER else pairs
        return o[rng.integers(0, len(o), n)], x[pairs], u[others]


@cache
def all_of(case: OfPool) -> Three:
    """The models of a pool that stand for a law."""
    pool = REAL[pool_of(case.forget_set)]
    rows = pool.splits[case.split]
    held = {name: made[:, rows].astype(np.float64) for name, made in pool.methods.items()}
    oracle, original = pool.oracles[:, rows].astype(np.float64), held["do_nothing"]
    if case.made in EQUAL:
        return oracle, original, EQUAL[case.made](oracle, held)
    return oracle, original, held[case.made]


def _line(o: np.ndarray, x: np.ndarray, u: np.ndarray) -> float:
    w = 2 / (o.var(0) + x.var(0))
    a, b = x.mean(0) - o.mean(0), u.mean(0) - o.mean(0)
    return float(100 * (w * a * b).sum() / (w * a * a).sum())


ANOTHER = "another draw of originals"
Held = dict[str, np.ndarray]


def mirrored(oracle: np.ndarray, held: Held) -> np.ndarray:
    """The originals on the other side of the oracles."""
    found: np.ndarray = 2 * oracle.mean(0) - held["do_nothing"]
    return found


def half_nearer(oracle: np.ndarray, held: Held) -> np.ndarray:
    """Every second point is at half of the way, the others are so much farther."""
    original = held["do_nothing"]
    line, second = original.mean(0) - oracle.mean(0), np.arange(oracle.shape[1]) % 2 == 0
    return _equal(oracle, original, original - 0.5 * second * line, ~second * line)


def moved(method: str) -> Callable[[np.ndarray, Held], np.ndarray]:
    """What a method made, moved away from the oracles."""

    def made(oracle: np.ndarray, held: Held) -> np.ndarray:
        original = held["do_nothing"]
        return _equal(oracle, original, held[method], original.mean(0) - oracle.mean(0))

    return made


def _equal(
    oracle: np.ndarray, original: np.ndarray, start: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """Moved along a step until they are as far away as the originals."""
    wanted = divergence(oracle, original)
    far = brentq(lambda k: divergence(oracle, start + k * step) - wanted, 0, 3)
    found: np.ndarray = start + far * step
    return found


EQUAL: dict[str, Callable[[np.ndarray, Held], np.ndarray]] = {
    ANOTHER: lambda oracle, held: held["do_nothing"],
    "originals mirrored": mirrored,
    "half of the points nearer": half_nearer,
    "`finetune`, moved": moved("finetune"),
    "`eu_k`, moved": moved("eu_k"),
}
