"""KLOM written from its definition, one point at a time: slow, obvious, and not ours to optimise."""

import numpy as np
from scipy import stats


def published(p, q, *, bins, clip_q, floor_everywhere, renormalise):
    """The published estimators: bins over the joint range, the largest sample falls out."""
    p = np.clip(np.asarray(p, np.float32), np.float32(-100), np.float32(100))
    q = np.asarray(q, np.float32)
    if clip_q:
        q = np.clip(q, np.float32(-100), np.float32(100))
    lo, hi = min(p.min(), q.min()), max(p.max(), q.max())
    if lo >= hi and not floor_everywhere:
        hi = lo + np.float32(1)
    edges = np.linspace(lo, hi, bins + 1, dtype=np.float32)
    slots = range(bins + 1) if floor_everywhere else range(1, bins + 1)
    count_p = np.array([np.sum(np.digitize(p, edges) == k) for k in slots])
    count_q = np.array([np.sum(np.digitize(q, edges) == k) for k in slots])
    with np.errstate(invalid="ignore"):
        if floor_everywhere:
            prob_p = count_p / count_p.sum()
            prob_q = np.clip(count_q / count_q.sum(), 1e-5, None)
        else:
            prob_p = count_p / max(count_p.sum(), 1)
            prob_q = count_q / max(count_q.sum(), 1)
            prob_q = np.where(prob_p > 0, np.maximum(prob_q, 1e-5), prob_q)
        if renormalise:
            return float(stats.entropy(prob_p, prob_q))
    held = prob_p > 0
    return float(np.sum(prob_p[held] * np.log(prob_p[held] / prob_q[held])))


def data_unlearning_bench(oracle, unlearned):
    return published(
        oracle, unlearned, bins=20, clip_q=True, floor_everywhere=False, renormalise=True
    )


def easydub(oracle, unlearned):
    return published(
        unlearned, oracle, bins=20, clip_q=True, floor_everywhere=False, renormalise=False
    )


def attribute_to_delete(oracle, unlearned):
    return published(
        unlearned, oracle, bins=19, clip_q=False, floor_everywhere=True, renormalise=True
    )


def default(oracle, unlearned):
    """18 bins over the oracles' range, the last one closed, and an open bin on either side."""
    oracle, unlearned = (np.asarray(m, np.float64) for m in (oracle, unlearned))
    lo, hi = oracle.min(), oracle.max()
    edges = [lo + k * ((hi - lo) / 18) for k in range(18)] + [hi]

    def share(sample):
        counts = [0] * 20
        for m in sample:
            if m < lo:
                counts[0] += 1
            elif m > hi:
                counts[19] += 1
            else:
                inside = [k for k in range(18) if edges[k] <= m < edges[k + 1]]
                counts[1 + (inside[0] if inside else 17)] += 1
        return [c / len(sample) for c in counts]

    return sum(
        p * np.log(p / max(q, 1e-5))
        for p, q in zip(share(oracle), share(unlearned), strict=True)
        if p > 0
    )


SLOW = {
    "default": default,
    "data_unlearning_bench": data_unlearning_bench,
    "easydub": easydub,
    "attribute_to_delete": attribute_to_delete,
}
