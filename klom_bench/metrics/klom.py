"""KLOM: KL divergence between the margins of oracles and of unlearned models, point by point."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from klom_bench.metrics.arrays import arange, cast, namespace, refuse_odd
from klom_bench.metrics.estimators import Estimator, estimator_named

# Elements of one sample handled at once: temporaries of a chunk stay in a core's cache.
CHUNK_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}


def klom(oracle: Any, unlearned: Any, estimator: str | Estimator = "default") -> Any:
    """KLOM of every point: how far the unlearned models are from models that never saw F.

    Args:
        oracle: margins [N, points] of oracles; a NumPy array or a torch tensor of any device.
        unlearned: margins [M, points] of unlearned models, of the same kind.
        estimator: the name of a preset, or an `Estimator`. A published preset gives nan where the
            published code does.

    Returns:
        float64 [points] of the same kind, in nats: 0 is best, the ceiling is about
        ln(1 / eps) = 11.5. Compare with the noise floor at this N and M, never with 0.

    Raises:
        ValueError: a margin is not finite (it names member and point), shapes do not fit, or arrays
            are masked, complex or hold no numbers.
        TypeError: the estimator is neither.

    Example:
        >>> import numpy as np
        >>> from klom_bench import klom
        >>> oracle = np.linspace(-1, 1, 100)[:, None]
        >>> klom(oracle, oracle).round(2), klom(oracle, oracle + 100).round(2)
        (array([0.]), array([8.63]))

    Source: arXiv 2410.23232 for the metric; `default` as measured (see `Estimator`).
    """
    return _divergences(oracle, unlearned, estimator, reverse=False)[0]


def klom_and_reverse(
    oracle: Any, unlearned: Any, estimator: str | Estimator = "default"
) -> tuple[Any, Any]:
    """KLOM, and the divergence in the other direction over the same bins; each as `klom`."""
    forward, reverse = _divergences(oracle, unlearned, estimator, reverse=True)
    return forward, reverse


def _divergences(
    oracle: Any, unlearned: Any, estimator: str | Estimator, *, reverse: bool
) -> list[Any]:
    est = estimator_named(estimator) if isinstance(estimator, str) else estimator
    if not isinstance(est, Estimator):
        raise TypeError(f"estimator: a name or an Estimator is expected, not {est!r}")
    xp = namespace(oracle, unlearned)
    _check(xp, oracle, unlearned)
    found: list[list[Any]] = [[], []] if reverse else [[]]
    for part in _chunks(xp, oracle, unlearned):
        counts = _counts(xp, oracle[:, part], unlearned[:, part], est)
        p, q = counts if est.direction == "oracle || unlearned" else counts[::-1]
        for scores, (a, b) in zip(found, [(p, q), (q, p)], strict=False):
            scores.append(divergence(xp, a, b, est))
    return [xp.concatenate(scores) for scores in found]


def _check(xp: Any, oracle: Any, unlearned: Any) -> None:
    for name, sample in (("oracle", oracle), ("unlearned", unlearned)):
        refuse_odd(xp, f"{name} margins", sample)
        if sample.ndim != 2 or sample.shape[0] < 1:
            raise ValueError(f"{name} margins must be [members, points], got {tuple(sample.shape)}")
    if oracle.shape[1] < 1:
        raise ValueError("there are no points to score")
    if oracle.shape[1] != unlearned.shape[1]:
        raise ValueError(
            f"oracle margins have {oracle.shape[1]} points, unlearned ones {unlearned.shape[1]}"
        )
    for name, sample in (("oracle", oracle), ("unlearned", unlearned)):
        for part in _chunks(xp, sample):
            finite = xp.isfinite(sample[:, part])
            if not bool(finite.all()):
                bad = ~finite
                member, point = (int(i[0]) for i in _nonzero(xp, bad))
                value = float(sample[member, part.start + point])
                raise ValueError(
                    f"the {name} margin of member {member} at point {part.start + point} is "
                    f"{value} ({int(bad.any(1).sum())} members have such values): this model "
                    "diverged, and a score would hide it"
                )


def _nonzero(xp: Any, mask: Any) -> Any:
    return mask.nonzero() if xp is np else mask.nonzero(as_tuple=True)


def _chunks(xp: Any, *samples: Any) -> Iterator[slice]:
    device = "cpu" if xp is np else samples[0].device.type
    members = max(sample.shape[0] for sample in samples)
    step = max(1, CHUNK_ELEMENTS.get(device, CHUNK_ELEMENTS["cuda"]) // members)
    for start in range(0, samples[0].shape[1], step):
        yield slice(start, min(start + step, samples[0].shape[1]))


def _counts(xp: Any, oracle: Any, unlearned: Any, est: Estimator) -> tuple[Any, Any]:
    """Histograms of both samples over the same bins: two integer arrays [points, bins]."""
    wide = xp.float64 if est.span == "oracle" else xp.float32
    most = max(sample.dtype.itemsize for sample in (oracle, unlearned))
    if est.span == "joint" or any(x.dtype != xp.float32 for x in (oracle, unlearned)):
        oracle, unlearned = cast(xp, oracle, wide), cast(xp, unlearned, wide)
    narrowed = most > oracle.dtype.itemsize
    if narrowed and not bool(xp.isfinite(oracle).all() and xp.isfinite(unlearned).all()):
        raise _beyond(est)
    if est.clip is not None:
        oracle_is_p = est.direction == "oracle || unlearned"
        if oracle_is_p or est.clip_q:
            oracle = xp.clip(oracle, -est.clip, est.clip)
        if not oracle_is_p or est.clip_q:
            unlearned = xp.clip(unlearned, -est.clip, est.clip)
    lo, hi = (cast(xp, ends, wide) for ends in (xp.amin(oracle, 0), xp.amax(oracle, 0)))
    if est.span == "joint":
        lo = xp.minimum(lo, xp.amin(unlearned, 0))
        hi = xp.maximum(hi, xp.amax(unlearned, 0))
        if est.least_q == "where p > 0":  # the 2024 code has no such rule and gives nan
            hi = xp.where(hi > lo, hi, lo + 1)
    if est.span == "oracle":
        oracle, unlearned, lo, hi = _with_a_range(xp, oracle, unlearned, lo, hi)
    else:
        with np.errstate(over="ignore"):
            if not bool(xp.isfinite(hi - lo).all()):
                raise _beyond(est)
    return _histogram(xp, oracle, lo, hi, est), _histogram(xp, unlearned, lo, hi, est)


def _beyond(est: Estimator) -> ValueError:
    if est.span == "oracle":
        return ValueError("margins beyond the range of float64")
    return ValueError(
        f"margins beyond the range of float32, in which {est.name} was published: use the "
        "estimator 'default'"
    )


TINY, UP, DOWN = 2.0**-1000, 2.0**800, 2.0**-2


def _with_a_range(xp: Any, oracle: Any, unlearned: Any, lo: Any, hi: Any) -> tuple[Any, ...]:
    """The same, but for points whose range or bins would overflow or underflow: there all are
    multiplied by a power of two, which is exact and leaves a divergence as it is."""
    with np.errstate(over="ignore"):
        span = hi - lo
        tiny, huge = (span > 0) & (span < TINY), ~xp.isfinite(span)
        if not bool((tiny | huge).any()):
            return oracle, unlearned, lo, hi
        factor = xp.ones_like(lo)
        factor[tiny], factor[huge] = UP, DOWN
        return oracle * factor, unlearned * factor, lo * factor, hi * factor


def _edges(xp: Any, lo: Any, hi: Any, bins: int) -> Any:
    """[points, bins + 1], as np.linspace(lo, hi, bins + 1) gives to the bit."""
    k = cast(xp, arange(xp, bins + 1, lo), lo.dtype)[None, :]
    span = (hi - lo)[:, None]
    step = span / bins
    edges = k * step
    if bool((step == 0).any()):  # underflow: np.linspace multiplies in the other order there
        edges = xp.where(step == 0, k / bins * span, edges)
    edges += lo[:, None]
    edges[:, -1] = hi
    return edges


ROUNDED = 16 * 2.0**-23
"""Of float32: more than what is lost in finding a sample's place among the bins."""


LARGEST = 1e30
"""Of what is multiplied in float32: nothing in a range of bins is beyond it, or lost near 0."""


def _histogram(xp: Any, x: Any, lo: Any, hi: Any, est: Estimator) -> Any:
    """Counts [points, slots], slots numbered as np.digitize does (0 lies below the range)."""
    points, slots = x.shape[1], est.bins + 2
    with np.errstate(all="ignore"):  # what has no place so is looked up below
        scale = est.bins / (hi - lo)
        near = ROUNDED * (xp.maximum(abs(lo), abs(hi)) * scale + slots)
        near = xp.where((scale > 1 / LARGEST) & (scale < LARGEST), near, math.inf)
        scale, first, near = (cast(xp, v, xp.float32) for v in (scale, 1 - lo * scale, near))
        place = cast(xp, x, xp.float32) * scale
        place += first
        place = xp.clip(place, 0.5, slots - 0.5)
        slot = cast(xp, place, xp.int64)
        place -= xp.round(place)
        sure = (abs(place) > near).reshape(-1)
    slot += arange(xp, points, x) * slots
    slot = slot.reshape(-1)
    if not bool(sure.all()):  # rounding may have moved what is near an edge over it
        at = _nonzero(xp, ~sure)[0]
        of_point, value = at % points, x.reshape(-1)[at]
        edges = _edges(xp, lo[of_point], hi[of_point], est.bins)
        reached = (value[:, None] >= edges).sum(1)
        if est.span == "oracle":  # the last bin is closed
            reached -= cast(xp, value == hi[of_point], xp.int64)
        slot[at] = of_point * slots + reached
    counts = xp.bincount(slot, minlength=points * slots).reshape(points, slots)
    # Samples equal to the end of a joint range are dropped, as published.
    return counts[:, :-1] if est.span == "joint" else counts


def divergence(xp: Any, p_counts: Any, q_counts: Any, est: Estimator) -> Any:
    """KL(p || q) of every point from counts [points, slots]; float64 [points]."""
    # Of a sample that was dropped whole no share is a number, but where it stays 0 as published.
    n = xp.clip(p_counts.sum(1), 0 if est.renormalise else 1, None)[:, None]
    m = xp.clip(q_counts.sum(1), 1 if est.least_q == "where p > 0" else 0, None)[:, None]
    whole = int(max(n.max(), m.max()))
    with np.errstate(invalid="ignore", divide="ignore"):
        log = xp.log(cast(xp, arange(xp, whole + 1, n), xp.float64))  # of every count
        p = p_counts / cast(xp, n, xp.float64)
        log_q = xp.clip(xp.take(log, q_counts) - log[m], math.log(est.eps), None)
        if est.renormalise:
            q = q_counts / cast(xp, m, xp.float64)
            held = (p_counts > 0) | (est.least_q == "every bin")
            log_q -= xp.log(xp.where(held, xp.clip(q, est.eps, None), q).sum(1))[:, None]
        log[0] = 0.0  # 0 log 0 = 0
        return (p * (xp.take(log, p_counts) - log[n] - log_q)).sum(1)
