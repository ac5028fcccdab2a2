"""How much of the mean shift is left: do intervals hold the truth, and who gets no number?"""

import math
from collections import Counter

import numpy as np
from calibration.blind_spots import models_of
from calibration.failures import FAILURES
from calibration.jobs import Run, drawn
from calibration.pool_of_parts import MODELS, SHARES, case_of, name_of
from calibration.sources import LAWS, REAL, seeded
from calibration.tables import errors, share, short, table
from calibration.triples import METHODS, SIZES, OfLaw, OfPool, pool_of

from klom_bench.metrics.leftover import WHYS, Leftover, leftover

REPEATS = 1000
PARTITIONS = 10
"""Of a pool into disjoint runs."""
LEAST_COVERED = 0.90
DAMAGE = tuple(name for name in FAILURES if "copies" not in name and "copied" not in name)
DAMAGED = 200
"""Repeats of each damage."""
Case = OfPool | OfLaw


def row(found: Leftover | None) -> list[float]:
    """The ends of the interval, in per cent, nan where there is no number; and why not."""
    assert found is not None
    if found.estimate is None:
        return [math.nan, math.nan, WHYS.index(found.why)]
    return [*found.estimate.interval(), math.nan]


def intervals(case: Case, n: int, repeats: range) -> np.ndarray:
    """[repeats, 3]."""
    draws = (case.draw(seeded("left over", case, n, k), n) for k in repeats)
    return np.array([row(leftover(*three)) for three in draws])


def fresh(forget_set: str, kind: float, n: int) -> np.ndarray:
    """[runs, 3]: disjoint runs of a pool, whose models are new to each. kind: the share of the
    forget set left in; 0 is a retrain, other oracles; 1 is doing nothing."""
    pool, found = REAL[name_of(forget_set)], []
    oracles, originals = pool.oracles, pool.methods["do_nothing"]
    made = originals if kind == 1 else oracles if kind == 0 else pool.methods[case_of(kind)]
    for k in range(PARTITIONS):
        rng = seeded("fresh", forget_set, kind, n, k)
        first, pairs = rng.permutation(len(oracles)), rng.permutation(len(originals))
        after = first[::-1] if kind == 0 else pairs
        count = len(first) // (2 * n if kind == 0 else n)
        for i in range(count):
            part = slice(i * n, (i + 1) * n)
            three = oracles[first[part]], originals[pairs[part]], made[after[part]]
            found.append(row(leftover(*three)))
    return np.array(found)


def damaged(name: str, n: int, repeats: range) -> np.ndarray:
    """[repeats, 3]."""
    found = []
    pool = pool_of("forget_set_2")
    rows = REAL[pool].splits["forget"]
    for k in repeats:
        rng = seeded("damage", name, n, k)
        models = models_of(pool, rng, n)
        unlearned = FAILURES[name](rng, models)
        sides = (models.oracles, models.originals, unlearned)
        found.append(row(leftover(*(x[:, rows] for x in sides))))
    return np.array(found)


def laws() -> list[Case]:
    """Where the truth is known: known laws, and methods by all models of their pools."""
    known = [
        OfLaw(law, shift, left) for law in LAWS for shift in (0.5, 2.0) for left in (0.0, 0.5, 1.0)
    ]
    sets = ("forget_set_2", "forget_set_5")
    return [*known, *(OfPool(name, made) for name in sets for made in METHODS)]


def print_left_over(run: Run, repeats: int = REPEATS, damages: int = DAMAGED) -> None:
    """Three tables."""
    print_fresh(run)
    found = drawn(run, intervals, [(case, n) for case in laws() for n in SIZES], repeats)
    columns = ["models", "true", *(f"held, N = {n}" for n in SIZES)]
    rows = [
        [case.name, per_cent(case.line), *(held(found[case, n], case.line) for n in SIZES)]
        for case in laws()
    ]
    print(
        "How often does the interval hold the truth, where there is a number (half of its width;"
        f" how often there is none)? {errors(repeats, 0.9, 0.95)}.\n"
    )
    print(table(columns, rows))
    jobs = [(name, n, range(damages)) for name in DAMAGE for n in SIZES]
    done = dict(zip(jobs, run(damaged, jobs), strict=True))
    columns = ["unlearned models", *(f"no number, N = {n}" for n in SIZES)]
    rows = [[name, *(refused(done[name, n, range(damages)]) for n in SIZES)] for name in DAMAGE]
    print(f"How often is there no number, and why, usually? {errors(damages, 0.05)}.\n")
    print(table(columns, rows))


def print_fresh(run: Run) -> None:
    """Models that are new to every run."""
    kinds = [(name, kind) for name in MODELS for kind in (0.0, *SHARES, 1.0)]
    jobs = [(*kind, n) for kind in kinds for n in SIZES]
    done = dict(zip(jobs, run(fresh, jobs), strict=True))
    columns = ["forget set", "left in", "of all models"]
    columns += [f"{what}, N = {n}" for what in ("share held", "that of all held") for n in SIZES]
    rows = []
    for name, kind in kinds:
        true = of_all(name, kind)
        by_size = [done[name, kind, n] for n in SIZES]
        cells = [held(x, 100 * kind, brief=True) for x in by_size] + [
            held(x, true) for x in by_size
        ]
        rows.append([name, per_cent(100 * kind), per_cent(true), *cells])
    sizes = ", ".join(f"{count} of {name}" for name, count in MODELS.items())
    print(
        "How often does the interval hold the share of the forget set that was left in, and what"
        " all models of the pool have (half of its width; how often there is no number)? Runs that"
        f" share no model, of {PARTITIONS} partitions of pools ({sizes}).\n"
    )
    print(table(columns, rows))


def of_all(forget_set: str, kind: float) -> float:
    """What is left by all models of a pool."""
    if kind in (0, 1):
        return 100 * kind
    pool = REAL[name_of(forget_set)]
    found = leftover(pool.oracles, pool.methods["do_nothing"], pool.methods[case_of(kind)])
    assert found is not None
    return found.estimate.value if found.estimate else math.nan


def per_cent(value: float) -> str:
    """For a table."""
    return f"{value:.1f} %"


def held(found: np.ndarray, true: float, brief: bool = False) -> str:
    """How often the intervals that there are hold the truth; how wide they are."""
    low, high = found[np.isfinite(found[:, 0]), :2].T
    without = 1 - len(low) / len(found)
    if without > 0.9:
        return f"none {refused(found)}"
    hold = share((low <= true + 1e-9) & (true - 1e-9 <= high), LEAST_COVERED)
    if brief:
        return hold
    return f"{hold} (±{np.median(high - low) / 2:.1f}; {short(without, 2)})"


def refused(found: np.ndarray) -> str:
    """How often there is no number, and the reason given most often."""
    reasons = found[np.isfinite(found[:, 2]), 2].astype(int).tolist()
    if not reasons:
        return ".00"
    (place, _), *_ = Counter(reasons).most_common(1)
    return f"{short(len(reasons) / len(found), 2)} ({WHYS[place]})"
