"""What is said of a perfect unlearner: the level of tests, and how often a floor is passed."""

import numpy as np
from calibration.jobs import Key, Run, drawn
from calibration.sources import LAWS, Real, Simulated, Source, seeded
from calibration.tables import errors, share, short, table

from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor, floor_limits
from klom_bench.metrics.permutation import permuted_klom, retrained
from klom_bench.metrics.quick import quick_klom
from klom_bench.metrics.summary import SPLITS

SIZES = (50, 100)
FLOOR_SIZE = 100
TESTS, FLOORS = 1000, 400
"""Repeats."""
PERMUTATIONS = 199
LEVEL = 0.05
LEAST, MOST = 0.03, 0.07


def p_values(case: Source, n: int, repeats: range) -> np.ndarray:
    """[repeats, 7]: all splits together, energy a split, outline a split."""
    found = []
    for k in repeats:
        oracle, unlearned = case.draw(seeded("tests", case, n, k), n)
        test = retrained(oracle, unlearned, case.splits, PERMUTATIONS)
        found.append([test.p, *(of[s] for of in (test.energy, test.outline) for s in SPLITS)])
    return np.array(found)


def print_levels(run: Run, repeats: int = TESTS) -> None:
    """How often tests at 5 % reject a perfect unlearner."""
    cases: list[Source] = [Simulated(law, whole=True) for law in LAWS]
    asked: list[Key] = [(case, n) for case in [*cases, Real("retrain", whole=True)] for n in SIZES]
    rows = []
    for (case, n), p in drawn(run, p_values, asked, repeats).items():
        rows.append([case.name, n, *(share(column <= LEVEL, LEAST, MOST) for column in p.T)])
    columns = [f"{test}: {s}" for test in ("energy", "outline") for s in SPLITS]
    print(
        f"Share of perfect unlearners that a test at 5 % rejects, {PERMUTATIONS} permutations;"
        f" {errors(repeats, 0.05)}.\n"
    )
    print(table(["margins", "N", "all splits", *columns], rows))


def above_floors(case: Source, n: int, repeats: range) -> np.ndarray:
    """[repeats, 5]: KLOM's mean; whether its mean and P95 are above limits, simulated, permuted."""
    estimator, rows, found = ESTIMATORS["default"], case.splits["forget"], []
    limits = floor_limits(estimator, n, n, len(rows))
    for k in repeats:
        drawn = case.draw(seeded("floors", case, n, k), n)
        oracle, unlearned = (x[:, rows].astype(np.float32) for x in drawn)
        points = quick_klom(oracle, unlearned, estimator)[0]
        anew = permuted_klom(oracle, unlearned, estimator)[False]
        scores = {"mean": points.mean(), "p95": np.percentile(points, 95)}
        found.append(
            [
                scores["mean"],
                *(score > limits[name] for name, score in scores.items()),
                *(score > np.quantile(anew[name], 0.95) for name, score in scores.items()),
            ]
        )
    return np.array(found)


def print_floors(run: Run, repeats: int = FLOORS) -> None:
    """How often a perfect unlearner's KLOM lies above the limits meant for it."""
    simulated = [Simulated(law, shared=s) for s in (0.0, 0.25) for law in LAWS]
    asked: list[Key] = [(case, FLOOR_SIZE) for case in [*simulated, Real("retrain")]]
    rows = []
    for (case, n), found in drawn(run, above_floors, asked, repeats).items():
        together = {0.0: "no", 0.25: "yes"}.get(getattr(case, "shared", None), "as they do")
        expected = floor(ESTIMATORS["default"], n, n).mean
        mean = f"{short(found[:, 0].mean())} / {short(expected)}"
        rows.append(
            [case.name, together, mean, *(share(above, 0, MOST) for above in found[:, 1:].T)]
        )
    columns = [f"{kind}: {s}" for kind in ("simulated", "permuted") for s in ("mean", "P95")]
    print(
        f"Share of perfect unlearners whose KLOM lies above a limit meant for 5 %, N = {FLOOR_SIZE};"
        f" {errors(repeats, 0.05)}.\n"
    )
    print(table(["margins", "points move together", "mean / floor", *columns], rows))
