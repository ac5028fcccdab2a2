"""KLOM of NumPy margins in float32, for repeating it hundreds of times."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from klom_bench.metrics.cores import together
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.klom import divergence

CHUNK = 1 << 15
MOST_POINTS = 5_000
LARGEST = 1e37
"""Margins are cut to it: their differences are numbers in float32, too."""
SEED = 0
NUDGE = 1e-6
"""Of a bin: what the end of the range is moved by, so that rounding does not decide about it."""


def few_enough(rows: np.ndarray) -> np.ndarray:
    """At most 5,000 of a split's points, drawn once: more hardly tell more, and cost as much."""
    if len(rows) <= MOST_POINTS:
        return rows
    drawn: np.ndarray = np.random.default_rng(SEED).choice(rows, MOST_POINTS, replace=False)
    return np.sort(drawn)


def klom_of_many(
    oracle: np.ndarray,
    unlearned: np.ndarray,
    draws: int,
    draw: Callable[[np.ndarray, np.ndarray], Iterator[tuple[np.ndarray, np.ndarray]]],
    est: Estimator,
) -> np.ndarray:
    """KLOM and its reverse, float64 [draws, 2, points], of models drawn again and again.

    draw(oracle, unlearned) gives the margins of both sides draw after draw, from those of some of
    the points: these fit into a core's cache, and each core has some, the same however many cores
    there are.
    """
    points = oracle.shape[1]
    step = max(1, CHUNK // max(len(oracle), len(unlearned)))
    found = np.empty((draws, 2, points))

    def fill(start: int) -> None:
        part = slice(start, start + step)
        o, u = (
            np.ascontiguousarray(np.clip(x[:, part], -LARGEST, LARGEST), dtype=np.float32)
            for x in (oracle, unlearned)
        )
        for i, sides in enumerate(draw(o, u)):
            found[i, :, part] = quick_klom(*sides, est)

    together(*(partial(fill, start) for start in range(0, points, step)))
    return found


def quick_klom(
    oracle: np.ndarray, unlearned: np.ndarray, est: Estimator
) -> tuple[np.ndarray, np.ndarray]:
    """As `klom_and_reverse`, but that samples within rounding of an edge fall on either side of it.

    float32 [N, points], [M, points] of finite margins, of few points -> float64 [points] twice.
    """
    turn = 1 if est.direction == "oracle || unlearned" else -1
    n, m = (len(oracle), len(unlearned))[::turn]
    p, q = _counts(oracle, unlearned, est)[::turn]
    if est.span == "oracle" and not est.renormalise and est.eps * max(n, m) <= 1:
        return _both_ways(p, n, q, m, est.eps)
    return divergence(np, p, q, est), divergence(np, q, p, est)


def _both_ways(
    a: np.ndarray, n: int, b: np.ndarray, m: int, eps: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where every sample is counted and only q is floored, logarithms are those of few numbers."""
    p, q = np.arange(n + 1) / n, np.arange(m + 1) / m
    log = np.log(np.maximum(p, eps))[a] - np.log(np.maximum(q, eps))[b]
    return (p[a] * log).sum(1), -(q[b] * log).sum(1)


def _counts(o: np.ndarray, u: np.ndarray, est: Estimator) -> tuple[np.ndarray, np.ndarray]:
    oracle_is_p = est.direction == "oracle || unlearned"
    if est.clip is not None:
        o = np.clip(o, -est.clip, est.clip) if oracle_is_p or est.clip_q else o
        u = np.clip(u, -est.clip, est.clip) if not oracle_is_p or est.clip_q else u
    joint = est.span == "joint"
    lo, hi = o.min(0), o.max(0)
    if joint:
        lo, hi = np.minimum(lo, u.min(0)), np.maximum(hi, u.max(0))
    # The last bin over the oracles' range is closed; the joint range drops what equals its end.
    scale = est.bins * (1 + NUDGE if joint else 1 - NUDGE) / np.maximum(hi - lo, 1e-30)
    return _histogram(o, lo, scale, est), _histogram(u, lo, scale, est)


def _histogram(x: np.ndarray, lo: np.ndarray, scale: np.ndarray, est: Estimator) -> np.ndarray:
    """Counts [points, slots]; slot 0 lies below the range."""
    points, slots = x.shape[1], est.bins + 2
    with np.errstate(over="ignore"):
        place = (x - lo) * scale.astype(np.float32)
    place += 1
    np.clip(place, 0, est.bins + 1, out=place)
    slot = place.astype(np.intp)
    slot += np.arange(points) * slots
    counts = np.bincount(slot.ravel(), minlength=points * slots).reshape(points, slots)
    return counts[:, :-1] if est.span == "joint" else counts
