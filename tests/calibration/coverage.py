"""Do intervals hold the expected score, and how often is a gate at its limit wrong?"""

from itertools import product

import numpy as np
from calibration.jobs import Key, Run, drawn
from calibration.sources import LAWS, Real, Simulated, Source, seeded
from calibration.tables import errors, share, table

from klom_bench.metrics.estimate import Estimate, judged
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import mean_excess
from klom_bench.metrics.quick import quick_klom
from klom_bench.metrics.resampling import klom_errors, with_error

SIZES = (50, 100)
GATED = 100
SHIFTS = (0.0, 0.5, 2.0)
METHODS = ("retrain", "influence", "scrub", "ga", "do_nothing")
REPEATS = 1000
LEAST_COVERED = 0.90
MOST_WRONG = {"Gaussian": 0.06, "skewed": 0.06, "bimodal": 0.08}
MOST_WRONG_REAL = 0.08
EXCESS, MEAN, P95, SKEW = 0, 2, 4, 6
"""Columns of values, whose errors are the next ones, and of the skewness of excess."""
NAMES = {EXCESS: "excess", MEAN: "KLOM, mean", P95: "KLOM, P95 (approximate)"}


def cases() -> list[Source]:
    """All that is drawn from."""
    simulated = [Simulated(law, shift) for law, shift in product(LAWS, SHIFTS)]
    return [*simulated, *map(Real, METHODS)]


def scores(case: Source, n: int, repeats: range, costly: int) -> np.ndarray:
    """[repeats, 7]: excess, KLOM's mean and P95, each with its error; the skewness of excess.

    Errors of KLOM are nan from repeat `costly` on. Excess is of models drawn with replacement, so
    that every repeat is new: ties, which ruin histograms, are nothing to means and variances.
    """
    estimator, found = ESTIMATORS["default"], []
    rows = case.splits["forget"]
    alone = {"forget": np.arange(len(rows))}
    for k in repeats:
        drawn_anew = (x[:, rows] for x in case.draw_anew(seeded("scores", case, n, k), n))
        excess = mean_excess(*drawn_anew, alone)["forget"].forward.estimate
        oracle, unlearned = (x[:, rows] for x in case.draw(seeded("scores", case, n, k), n))
        points = quick_klom(oracle.astype(np.float32), unlearned.astype(np.float32), estimator)[0]
        p95 = np.percentile(points, 95)
        line = [excess.value, excess.se, points.mean(), np.nan, p95, np.nan, excess.skew]
        if k < costly:
            of_klom, _ = klom_errors(oracle, unlearned, alone, estimator)["forget"]
            line[MEAN + 1], line[P95 + 1] = of_klom.mean, of_klom.p95
        found.append(line)
    return np.array(found)


def print_coverage(run: Run, cheap: int = REPEATS, costly: int = REPEATS) -> None:
    """Both tables."""
    keys: list[Key] = [(case, n) for case in cases() for n in SIZES]
    of_each = drawn(run, scores, keys, cheap, costly)
    found = {key: Repeats(*key, values) for key, values in of_each.items()}
    columns = ["margins", *(f"{name}, N = {n}" for name in NAMES.values() for n in SIZES)]
    rows = [
        [case.name, *(found[case, n].covered(column) for column in NAMES for n in SIZES)]
        for case in cases()
    ]
    print(
        "Share of two-sided 95 % intervals that hold the expected score (mean error over true sd);"
        f" excess: {errors(cheap, 0.9, 0.95)}; KLOM: {errors(costly, 0.9, 0.95)}.\n"
    )
    print(table(columns, rows))
    columns = ["margins", *(f"{NAMES[c]}: {w}" for c in (EXCESS, MEAN) for w in ("fail", "pass"))]
    rows = [
        [case.name, *(found[case, GATED].wrong(c, w) for c in (EXCESS, MEAN) for w in WRONG)]
        for case in cases()
    ]
    print(
        f"Share of wrong decisions of a gate whose limit is the expected score, N = {GATED},"
        f" confidence .95; excess: {errors(cheap, 0.05)}; KLOM: {errors(costly, 0.05)}.\n"
    )
    print(table(columns, rows))


WRONG = ("fail", "pass")


class Repeats:
    """All repeats of a case at one N."""

    def __init__(self, case: Source, n: int, scores: np.ndarray) -> None:
        self.case, self.n, self.scores = case, n, scores

    def estimates(self, column: int) -> tuple[list[Estimate], float]:
        """Each repeat whose error is known, as far from the mean as with new models; the mean."""
        value, se, skew = (self.scores[:, c] for c in (column, column + 1, SKEW))
        expected = float(value.mean())
        if column == EXCESS:
            lines = zip(value, se, skew, strict=True)
            return [Estimate(float(v), float(e), self.n, float(s)) for v, e, s in lines], expected
        apart = expected + (value - expected) * self.case.apart(self.n)
        known = np.isfinite(se)
        pairs = zip(apart[known], se[known], strict=True)
        return [with_error(float(v), float(e), self.n) for v, e in pairs], expected

    def covered(self, column: int) -> str:
        """The share of intervals that hold the expected value, and error over true sd."""
        found, expected = self.estimates(column)
        hold = [low <= expected <= high for low, high in (e.interval() for e in found)]
        ratio = np.mean([e.se for e in found]) / np.std([e.value for e in found], ddof=1)
        return f"{share(hold, 0.0 if column == P95 else LEAST_COVERED)} ({ratio:.2f})"

    def wrong(self, column: int, decision: str) -> str:
        """How often a gate at the expected value decides so."""
        found, expected = self.estimates(column)
        law = getattr(self.case, "law", None)
        most = MOST_WRONG[law] if law else MOST_WRONG_REAL
        return share([judged(e, expected) == decision for e in found], 0.0, most)
