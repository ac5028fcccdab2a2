"""Whether oracles really lack their forget set: originals held against oracles."""

from dataclasses import dataclass

import numpy as np

from klom_bench.forget_set import ForgetSet
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor
from klom_bench.metrics.klom import klom
from klom_bench.metrics.summary import plain

FEWEST = 10
"""With fewer models a side the sanity check has too little to go by."""
SURE, DOUBTFUL = 3.0, 1.0
"""Standard errors by which margins on the forget set differ: below the second nothing shows, though
ten random points of `digits` come to 2.3 at N = 100 (measured), other sets to 30 and more."""
ALIKE = 0.5
"""Correlation of mean margins over points; .9 and more is usual (measured), 0 misaligned."""
SAME = 0.3
"""Standard deviations between sorted mean margins: the same ones in another order have fewer,
models that a set has changed so much have more (1.3 where 12 of 130 labels were wrong)."""
TOO_CLOSE = 0.8
"""No independent models score so small a part of the floor over thousands of points; models with
shared seeds do (.78, measured), and copies."""

STRAY = 4.0
"""Robust standard deviations from the other oracles, on the side of the originals. On sets of
`digits`, at N = 10 to 100, no oracle was so in 682 ensembles drawn from 1,100 oracles, and of 682
originals put among these 680 were (measured)."""


@dataclass(frozen=True)
class Sanity:
    """Originals against oracles.

    forget, retain: mean KLOM of doing nothing. shift: by how much more than oracles the originals
    are sure of the forget set, in nats, over what they are of retain points; sigmas: how many
    standard errors that is (models are the unit). alignment: the lower correlation of mean margins
    over retain and over val points; apart: between their sorted mean margins there, in standard
    deviations.
    """

    forget: float
    retain: float
    floor: float
    shift: float
    sigmas: float
    alignment: float
    apart: float

    def as_json(self) -> dict[str, float | None]:
        """Plain numbers."""
        return {name: plain(value) for name, value in vars(self).items()}


def sanity(originals: np.ndarray, oracles: np.ndarray, forget_set: ForgetSet) -> Sanity:
    """How originals and oracles differ, on the forget set and elsewhere.

    originals [N, points], oracles [M, points]: margins, train points first.
    """
    estimator = ESTIMATORS["default"]
    points = klom(oracles, originals, estimator)
    forget, retain = forget_set.indices, forget_set.retain
    a, b = (
        m[:, forget].mean(1, dtype=np.float64) - m[:, retain].mean(1, dtype=np.float64)
        for m in (originals, oracles)
    )
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) if len(a) > 1 < len(b) else 0.0
    a_mean, b_mean = originals.mean(0), oracles.mean(0)
    val = np.arange(forget_set.train_points, originals.shape[1])

    def alignment(rows: np.ndarray) -> float:
        return float(np.corrcoef(a_mean[rows], b_mean[rows])[0, 1])

    least = min((retain, val), key=alignment)
    return Sanity(
        forget=float(points[forget].mean()),
        retain=float(points[retain].mean()),
        floor=floor(estimator, len(oracles), len(originals)).mean,
        shift=float(a.mean() - b.mean()),
        sigmas=float((a.mean() - b.mean()) / error) if error > 0 else float("nan"),
        alignment=alignment(least),
        apart=apart(a_mean[least], b_mean[least]),
    )


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """How far sorted values lie apart in the median, in standard deviations of the second."""
    return float(np.median(np.abs(np.sort(a) - np.sort(b))) / b.std()) if b.std() > 0 else 0.0


def strays(originals: np.ndarray, oracles: np.ndarray, forget_set: ForgetSet) -> list[int]:
    """Rows of oracles [M, points] that look like originals [N, points] on the forget set.

    By a linear discriminant with a diagonal covariance, made without the model that it judges: on
    the originals' side, and far from the other oracles. Nothing is said of fewer than FEWEST models
    a side. To be asked where originals and oracles differ (`sigmas` above SURE) alone.
    """
    if min(len(originals), len(oracles)) < FEWEST:
        return []
    a, b = (
        m[:, forget_set.indices] - m[:, forget_set.retain].mean(1, dtype=np.float64, keepdims=True)
        for m in (originals, oracles)
    )
    middle = (a.mean(0) + b.mean(0)) / 2
    a, b = a - middle, b - middle
    like_a = -_side(b, a)
    usual = np.median(like_a)
    spread = 1.4826 * np.median(np.abs(like_a - usual))
    return [int(i) for i in np.flatnonzero(like_a > max(0, usual + STRAY * spread))]


def _side(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far each row lies on the side of its own kind: of the others of it, without itself."""
    n = len(own)
    mean = (own.sum(0) - own) / (n - 1)
    var = ((own**2).sum(0) - own**2 - (n - 1) * mean**2) / (n - 2)
    apart = mean - others.mean(0)
    weights = apart / (var + others.var(0, ddof=1) + 1e-9)
    side: np.ndarray = (weights * (own - (mean + others.mean(0)) / 2)).sum(1)
    return side


def judged(found: Sanity, oracles: int, originals: int) -> tuple[list[str], list[str]]:
    """What the figures mean, in words: problems, and notes."""
    problems, notes = [], []
    if min(oracles, originals) < FEWEST:
        notes.append(
            f"{min(oracles, originals)} models a side are too few to tell whether the oracles lack "
            "the forget set"
        )
    elif not found.sigmas > SURE:
        text = (
            f"on the forget set the oracles cannot be told from the originals (KLOM "
            f"{found.forget:.2f}, floor {found.floor:.2f}; margins differ by {found.shift:.3g}, "
            f"{found.sigmas:.1f} standard errors)"
        )
        if found.sigmas > DOUBTFUL:
            notes.append(f"{text}: the set has little influence, or there are few models")
        else:
            problems.append(f"they look as if they had been trained on all data: {text}")
    if min(oracles, originals) >= FEWEST and found.retain < TOO_CLOSE * found.floor:
        problems.append(
            f"doing nothing scores {found.retain:.2f} on retain points, below the floor of "
            f"{found.floor:.2f}: these are copies of originals, or share their seeds"
        )
    if found.alignment < ALIKE:
        text = (
            f"their mean margins hardly go with those of the originals (correlation "
            f"{found.alignment:.2f} on retain or val points)"
        )
        if found.apart < SAME:
            problems.append(f"{text}: points in another order, or another dataset")
        else:
            notes.append(
                f"{text}: the set has much influence, or these are points of another dataset"
            )
    return problems, notes
