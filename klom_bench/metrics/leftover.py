"""How much of the mean shift from oracles to originals is left, in per cent.

    a = mean of the originals - mean of the oracles           the line
    b = mean of the unlearned - mean of the oracles           where the unlearned models are
    slope = sum w (a b - noise of a b) / sum w (a^2 - noise of a^2)

over the forget points, each weighted by w = 1 / the mean of the variances of oracles and originals.
Noise is what means of few models add: both have the oracles in common, and unlearned model i was
original i. It is a direction in which models moved: damage has none, so it is no number of damaged
models. It is never a statement that models behave as if they had been trained on a part.
"""

from dataclasses import dataclass
from typing import Literal, TypedDict, get_args

import numpy as np

from klom_bench.metrics.estimate import Estimate, EstimateJson
from klom_bench.metrics.excess import CHUNK, FEWEST, Jackknife
from klom_bench.metrics.summary import plain

BESIDE = 0.5
"""Squared mean shift beside the line, in variances a point; more is off the line."""
SPREAD = 2.0
"""Median ratio of variances, unlearned over oracles; more is off the line."""
WHOLE = 100.0
SLACK = 5.0
"""How far, in per cent, an interval lies beyond 0 or 100 before that is off the line: without it a
perfect method would be off in one of forty runs."""

Why = Literal[
    "too wide",
    "beside the line",
    "beyond the oracles",
    "beyond the originals",
    "originals like oracles",
]
"""Why there is no number; all but the last are off the line."""
WHYS: tuple[Why, ...] = get_args(Why)
UNKNOWN: Why = "originals like oracles"
REASONS: dict[Why, str] = {
    "too wide": "margins vary {spread:.1f} times as much as the oracles', more than {SPREAD:g}",
    "beside the line": "points moved by other parts of the way, or elsewhere: {beside:.2f} "
    "variances a point beside the line, more than {BESIDE:g}",
    "beyond the oracles": "means lie beyond the oracles for sure",
    "beyond the originals": "means lie beyond the originals for sure",
    UNKNOWN: "the originals cannot be told from the oracles at this N",
}


class Slope(Estimate):
    """A number that is no divergence: its error is the same on either side of a limit."""

    def at_the_limit(self, limit: float) -> "Slope":
        """Itself."""
        return self


class LeftoverJson(TypedDict):
    """`Leftover` in records; estimate: null where `why` says that there is none."""

    estimate: EstimateJson | None
    beside: float | None
    spread: float | None
    why: Why | None


@dataclass(frozen=True)
class Leftover:
    """Per cent of the mean shift, or why there is no number.

    beside: squared mean shift beside the line, in variances a point. spread: median ratio of
    variances, unlearned over oracles.
    """

    estimate: Slope | None
    beside: float
    spread: float
    why: Why | None = None

    @property
    def off_the_line(self) -> bool:
        """Whether models did not move from the originals towards the oracles, but elsewhere."""
        return self.why is not None and self.why != UNKNOWN

    @property
    def reason(self) -> str:
        """`why` in words and numbers."""
        if self.why is None:
            return ""
        numbers = {"beside": self.beside, "spread": self.spread}
        return REASONS[self.why].format(**numbers, BESIDE=BESIDE, SPREAD=SPREAD)

    def as_json(self) -> LeftoverJson:
        """Plain numbers."""
        return {
            "estimate": None if self.estimate is None else self.estimate.as_json(),
            "beside": plain(self.beside),
            "spread": plain(self.spread),
            "why": self.why,
        }


def leftover(oracle: np.ndarray, original: np.ndarray, unlearned: np.ndarray) -> Leftover | None:
    """How much is left of the mean shift of these points; None with fewer than five models a side.

    Margins [M, points], [N, points], [N, points]; row i of unlearned was made of original i, and
    both are left out together by the jackknife.

    Source: thresholds chosen on `digits` (`klom help verdict`).
    """
    if min(len(oracle), len(original)) < FEWEST:
        return None
    whole, by_oracle, by_pair = _sums(oracle, original, unlearned)
    with np.errstate(divide="ignore", invalid="ignore"):
        slopes = [WHOLE * (ab / aa) for aa, ab, _ in (whole, by_oracle, by_pair)]
        slope = Jackknife(float(slopes[0]), slopes[1], slopes[2]).estimate
        shift = Jackknife(float(whole[0]), by_oracle[0], by_pair[0]).estimate
        beside = float((whole[2] - whole[1] ** 2 / whole[0]) / oracle.shape[1])
    spread = _spread(oracle, unlearned)
    found = Slope(slope.value, slope.se, slope.models, slope.skew)
    why = _why(shift, found, beside, spread)
    return Leftover(None if why else found, beside, spread, why)


def _why(shift: Estimate, slope: Estimate, beside: float, spread: float) -> Why | None:
    """The first reason against a number. shift: of the originals, what the slope is divided by."""
    low, high = slope.interval()
    if not shift.interval()[0] > 0:
        return UNKNOWN
    if spread > SPREAD:
        return "too wide"
    if beside > BESIDE:
        return "beside the line"
    if high < -SLACK:
        return "beyond the oracles"
    return "beyond the originals" if low > WHOLE + SLACK else None


def _sums(
    oracle: np.ndarray, original: np.ndarray, unlearned: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted sums of a^2, a b and b^2 without their noise: [3], without each oracle [3, M], and
    without each pair [3, N]."""
    m, n, points = len(oracle), len(original), oracle.shape[1]
    whole, by_oracle, by_pair = np.zeros(3), np.zeros((3, m)), np.zeros((3, n))
    step = max(1, CHUNK // max(m, n))
    for start in range(0, points, step):
        part = slice(start, start + step)
        o, x, u = (z[:, part].astype(np.float64) for z in (oracle, original, unlearned))
        of_o, of_pair = _moments(o), _moments(x, u)
        whole += _products(of_o, of_pair)
        by_oracle += _products(_left_out(of_o, o), of_pair)
        by_pair += _products(of_o, _left_out(of_pair, x, u))
    return whole, by_oracle, by_pair


@dataclass(frozen=True)
class _Moments:
    """Of one or two ensembles with rows in pairs: their number, means, and sums of products about
    these."""

    models: int
    means: list[np.ndarray]
    products: list[list[np.ndarray]]

    def covariance(self, i: int, j: int) -> np.ndarray:
        found: np.ndarray = self.products[i][j] / (self.models - 1)
        return found


def _moments(*sides: np.ndarray) -> _Moments:
    means = [x.mean(0) for x in sides]
    away = [x - mean for x, mean in zip(sides, means, strict=True)]
    return _Moments(len(sides[0]), means, [[(x * y).sum(0) for y in away] for x in away])


def _left_out(of: _Moments, *sides: np.ndarray) -> _Moments:
    """The moments without each row in turn, [models, points]."""
    n = of.models
    away = [x - mean for x, mean in zip(sides, of.means, strict=True)]
    return _Moments(
        n - 1,
        [mean - x / (n - 1) for x, mean in zip(away, of.means, strict=True)],
        [
            [of.products[i][j] - x * y * (n / (n - 1)) for j, y in enumerate(away)]
            for i, x in enumerate(away)
        ],
    )


def _products(oracles: _Moments, pairs: _Moments) -> np.ndarray:
    """Sums over the points of w (a^2, a b, b^2) without noise, [3, ...]."""
    (o,), (x, u) = oracles.means, pairs.means
    a, b = x - o, u - o
    m, n = oracles.models, pairs.models
    s, t = oracles.covariance(0, 0), pairs.covariance(0, 0)
    both = s + t
    safe = np.where(both > 0, both, 1)
    w = np.where(both > 0, 2 / safe, 0)
    # A variance that is large by chance makes its own weight small: what is taken off would be too
    # little, by 13 per cent of the line with 8 models and a shift of half an sd (measured).
    of_s, of_t = (1 + 2 / (k - 1) * x / safe for k, x in ((m, s), (n, t)))
    found = [
        (w * (p * q - of_s * s / m - of_t * pairs.covariance(i, j) / n)).sum(-1)
        for p, q, i, j in ((a, a, 0, 0), (a, b, 0, 1), (b, b, 1, 1))
    ]
    return np.stack(found)


def _spread(oracle: np.ndarray, unlearned: np.ndarray) -> float:
    s, t = (x.var(0, ddof=1, dtype=np.float64) for x in (oracle, unlearned))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((s == 0) & (t == 0), 1.0, t / s)
    return float(np.median(ratio))
