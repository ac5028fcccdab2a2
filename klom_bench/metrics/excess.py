"""Excess: how far unlearned models are from oracles, 0 for a perfect unlearner at every N.

    KL(N(a, s) || N(b, t)) = 1/2 [log t/s + (s + (a - b)^2)/t - 1]     s, t: variances

of the Gaussians that have the margins' means and variances, each term replaced by an estimate that
is unbiased where margins are Gaussian. It is not KLOM, whose value falls with N.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from klom_bench.metrics.estimate import Estimate, EstimateJson
from klom_bench.metrics.summary import plain

FEWEST = 5
"""Models on either side that leave a finite expectation when one of them is left out."""
HIGHEST = 11.512925
"""What a point counts at most, ln(1 / eps) of KLOM, so that one ruined model counts finitely."""
COLLAPSED = 1e-9
"""A variance so small a part of the other is none."""
LOST = 1e-6
"""A part of the sum of squares too small to be what is left of it."""
ROBUST_SD = 1.4826
"""Over the median absolute deviation of a Gaussian."""
CHUNK = 1 << 15


@dataclass(frozen=True)
class Jackknife:
    """A statistic, and what it is without each oracle and without each unlearned model.

    Sums and multiples of it are those of the statistics, so that a difference of two methods on
    the same oracles, made from the same originals, is paired.
    """

    value: float
    without_oracle: np.ndarray
    without_unlearned: np.ndarray

    def __sub__(self, other: "Jackknife") -> "Jackknife":
        """The difference."""
        return Jackknife(
            self.value - other.value,
            self.without_oracle - other.without_oracle,
            self.without_unlearned - other.without_unlearned,
        )

    def __mul__(self, factor: float) -> "Jackknife":
        """A multiple."""
        return Jackknife(
            self.value * factor, self.without_oracle * factor, self.without_unlearned * factor
        )

    @property
    def estimate(self) -> Estimate:
        """With the delete-one standard error and skewness over both sides."""
        return from_sides(self.value, (self.without_oracle, self.without_unlearned))


def from_sides(value: float, sides: Sequence[np.ndarray]) -> Estimate:
    """A statistic of several independent ensembles, from what it is without each model of each."""
    # Of the value, from what each model adds to it: a sum of independent parts.
    parts = [(x.mean() - x) * math.sqrt((len(x) - 1) / len(x)) for x in sides]
    variance = sum(float((x**2).sum()) for x in parts)
    third = sum(float((x**3).sum()) for x in parts)
    skew = third / variance / math.sqrt(variance) if variance > 0 else 0.0
    return Estimate(value, math.sqrt(variance), min(map(len, sides)), skew)


class ExcessJson(EstimateJson):
    """Excess of a split in records. cut: with margins cut to three robust standard deviations."""

    cut: float | None
    reverse: EstimateJson


@dataclass(frozen=True)
class BothWays:
    """Of oracles from unlearned models, KL(oracle || unlearned), and the other way round."""

    forward: Jackknife
    reverse: Jackknife

    def as_json(self, cut: float | None = None) -> "ExcessJson":
        """Plain numbers; cut: the forward one with margins cut."""
        return {
            **self.forward.estimate.as_json(),
            "cut": None if cut is None else plain(cut),
            "reverse": self.reverse.estimate.as_json(),
        }


def excess(oracle: np.ndarray, unlearned: np.ndarray, *, reverse: bool = False) -> np.ndarray:
    """Excess of every point, float64 [points], in nats; negative where chance has it so.

    oracle [N, points], unlearned [M, points]: margins; N, M >= 4. reverse: the divergence of the
    unlearned models from the oracles.
    """
    found = [_both(*_moments(o), *_moments(u))[reverse] for o, u in _chunks(oracle, unlearned)]
    return np.concatenate(found)


def cut(
    oracle: np.ndarray, unlearned: np.ndarray, width: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides cut, point by point, to median +- width robust standard deviations of either.

    On heavy-tailed margins the excess of a perfect unlearner is then nearly 0 (t with 3 degrees of
    freedom, N = 100: .087 becomes .004). It hides ruined members, so it is never judged alone.
    """
    ends = []
    for x in (oracle, unlearned):
        middle = np.median(x, 0)
        sd = ROBUST_SD * np.median(np.abs(x - middle), 0)
        ends.append((middle - width * sd, middle + width * sd))
    (a, b), (c, d) = ends
    lo, hi = np.minimum(a, c), np.maximum(b, d)
    return np.clip(oracle, lo, hi), np.clip(unlearned, lo, hi)


def mean_excess(
    oracle: np.ndarray, unlearned: np.ndarray, splits: Mapping[str, np.ndarray]
) -> dict[str, BothWays]:
    """The mean excess over the points of each split, both ways, with its jackknife.

    Margins as in `excess`. splits: the columns of each. A split without points is nan. Nothing with
    fewer than five models a side.
    """
    if min(len(oracle), len(unlearned)) < FEWEST:
        return {}
    return {
        name: _mean_excess(oracle[:, rows], unlearned[:, rows]) for name, rows in splits.items()
    }


def _mean_excess(oracle: np.ndarray, unlearned: np.ndarray) -> BothWays:
    n, m, points = len(oracle), len(unlearned), oracle.shape[1]
    value, by_oracle, by_unlearned = np.zeros(2), np.zeros((2, n)), np.zeros((2, m))
    for o, u in _chunks(oracle, unlearned):
        of_o, of_u = _moments(o), _moments(u)
        value += [x.sum() for x in _both(*of_o, *of_u)]
        by_oracle += [x.sum(1) for x in _both(*_left_out(o, *of_o), *of_u)]
        by_unlearned += [x.sum(1) for x in _both(*of_o, *_left_out(u, *of_u))]
    with np.errstate(invalid="ignore"):
        sums = [x / np.float64(points) for x in (value, by_oracle, by_unlearned)]
    forward, reverse = (Jackknife(float(v), o, u) for v, o, u in zip(*sums, strict=True))
    return BothWays(forward, reverse)


def _chunks(oracle: np.ndarray, unlearned: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Columns in float64, so many that temporaries stay in a core's cache."""
    step = max(1, CHUNK // max(len(oracle), len(unlearned)))
    for start in range(0, max(oracle.shape[1], 1), step):
        part = slice(start, start + step)
        yield oracle[:, part].astype(np.float64), unlearned[:, part].astype(np.float64)


Moments = tuple[int, np.ndarray, np.ndarray]
"""Number of models, mean and sum of squares about it."""


def _moments(x: np.ndarray) -> Moments:
    # The mean of equal numbers is not always theirs, so that rounding would be their spread.
    mean = np.where((x == x[0]).all(0), x[0], x.mean(0))
    return len(x), mean, ((x - mean) ** 2).sum(0)


def _left_out(x: np.ndarray, n: int, mean: np.ndarray, squares: np.ndarray) -> Moments:
    """The moments without each model in turn, [n, points]."""
    away = x - mean
    centre, rest = mean - away / (n - 1), squares - away**2 * (n / (n - 1))
    # Where one model is all of the spread, rounding has taken what the others have.
    model, point = np.nonzero(rest < LOST * squares)
    others = x.T[point][np.arange(n) != model[:, None]].reshape(len(point), n - 1).T
    _, centre[model, point], rest[model, point] = _moments(others)
    return n - 1, centre, rest


def _both(
    n: int, a: np.ndarray, ss: np.ndarray, m: int, b: np.ndarray, tt: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Excess in both directions from the moments of oracles and of unlearned models."""
    s, t, gap = ss / (n - 1), tt / (m - 1), (a - b) ** 2
    same = (s <= 0) & (t <= 0) & (gap == 0)
    collapsed = ~same & ((s <= COLLAPSED * t) | (t <= COLLAPSED * s))
    with np.errstate(divide="ignore", invalid="ignore"):
        log = np.log(t) - np.log(s) + (_bias(n) - _bias(m))
        forward = log + _ratio(n, s, m, t, gap) - 1
        reverse = -log + _ratio(m, t, n, s, gap) - 1
    found = []
    for doubled in (forward, reverse):
        capped = np.where(collapsed, HIGHEST, np.minimum(doubled / 2, HIGHEST))
        found.append(np.where(same, 0.0, capped))
    return found[0], found[1]


def _bias(k: int) -> float:
    """E[log of a variance of k Gaussian samples] less the log of the true one."""
    from scipy.special import digamma  # what only reads records need not wait for it

    x = (k - 1) / 2
    return float(digamma(x)) - math.log(x)


def _ratio(n: int, s: np.ndarray, m: int, t: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """An unbiased estimate of (sigma^2 + (mu - nu)^2) / tau^2."""
    found: np.ndarray = (m - 3) / (m - 1) * (s * (1 - 1 / n) + gap) / t - 1 / m
    return found
