"""Comparisons of two runs: how often is a change seen where there is none, and where there is one?

Two runs without a difference: each has one model in ten of its own, drawn anew from the same law.
Paired they share all other unlearned models, and the oracles; unpaired they share nothing.
"""

from itertools import product

import numpy as np
from calibration.jobs import Key, Run, drawn
from calibration.sources import LAWS, REAL, Real, Simulated, Source, seeded
from calibration.tables import errors, share, short, table

from klom_bench.metrics.comparison import (
    ALL,
    NOTHING,
    Comparison,
    Paired,
    apart,
    drawn_difference,
    excess_difference,
    smallest_seen,
)
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import Jackknife, mean_excess
from klom_bench.metrics.klom import klom
from klom_bench.metrics.resampling import klom_errors, with_error

SIZES = (20, 100)
SHIFTS = (0.0, 0.5, 2.0)
METHODS = ("retrain", "influence", "scrub", "ga", "do_nothing")
PAIRS = (("do_nothing", "ga"), ("ga", "scrub"), ("influence", "scrub"))
REPEATS, COSTLY = 1000, 200
OWN = 10
"""One of so many models is of one run alone."""
MOST_WRONG, LEAST_SEEN, LEAST_COVERED = 0.07, 0.75, 0.90
Sides = tuple[np.ndarray, np.ndarray]
"""Oracles and unlearned models."""


def cases() -> list[Source]:
    """All that is drawn from."""
    simulated = [Simulated(law, shift) for law, shift in product(LAWS, SHIFTS)]
    return [*simulated, *map(Real, METHODS)]


def runs(case: Source, n: int, repeat: int) -> tuple[Sides, Sides, Sides]:
    """Two runs that share models and do not differ, and one that shares none with them."""
    rng, rows = seeded("comparison", case, n, repeat), case.splits["forget"]
    (oracle, shared), (_, own), other = (
        [x[:, rows] for x in case.draw_anew(rng, n)] for _ in range(3)
    )
    count = n // OWN
    now, before = shared.copy(), shared.copy()
    now[:count], before[count : 2 * count] = own[:count], own[count : 2 * count]
    return (oracle, now), (oracle, before), (other[0], other[1])


def excesses(case: Source, n: int, repeats: range) -> np.ndarray:
    """[repeats, 4]: the difference of excess and its error, paired, then unpaired."""
    found = []
    for k in repeats:
        now, before, other = (_jackknife(*sides) for sides in runs(case, n, k))
        both = excess_difference(now, before, ALL), excess_difference(now, other, NOTHING)
        found.append([number for d in both for number in (d.value, d.se)])
    return np.array(found)


def means(case: Source, n: int, repeats: range) -> np.ndarray:
    """The same of KLOM's mean."""
    estimator, found = ESTIMATORS["default"], []
    for k in repeats:
        estimates, draws = [], []
        for oracle, unlearned in runs(case, n, k):
            alone = {"forget": np.arange(oracle.shape[1])}
            of, _ = klom_errors(oracle, unlearned, alone, estimator)["forget"]
            score = float(klom(oracle, unlearned, estimator).mean())
            estimates.append(with_error(score, of.mean, n))
            draws.append(of.means)
        now, before, other = estimates
        both = drawn_difference(now, before, (draws[0], draws[1])), apart(now, other)
        found.append([number for d in both for number in (d.value, d.se)])
    return np.array(found)


def pairs(case: Real, n: int, repeats: range, other: str) -> np.ndarray:
    """[repeats, 3]: excess of a method less that of another on the same models, its error, and
    what its error is without pairs."""
    pool, rows, found = REAL["digits"], case.splits["forget"], []
    for k in repeats:
        rng = seeded("pairs", case, other, n, k)
        oracle = pool.oracles[rng.integers(0, len(pool.oracles), n)][:, rows]
        same = rng.integers(0, len(pool.methods[other]), n)
        now, before = (
            _jackknife(oracle, pool.methods[name][same][:, rows]) for name in (case.method, other)
        )
        paired: tuple[Paired, ...] = (ALL, NOTHING)
        whole, alone = (excess_difference(now, before, of) for of in paired)
        found.append([whole.value, whole.se, alone.se])
    return np.array(found)


def _jackknife(oracle: np.ndarray, unlearned: np.ndarray) -> Jackknife:
    return mean_excess(oracle, unlearned, {"all": np.arange(oracle.shape[1])})["all"].forward


def print_comparison(run: Run, cheap: int = REPEATS, costly: int = COSTLY) -> None:
    """Wrong words and missed changes, excess and means of KLOM; then pairs of methods."""
    keys: list[Key] = [(case, n) for case in cases() for n in SIZES]
    of_klom: list[Key] = [(case, SIZES[-1]) for case in cases() if isinstance(case, Simulated)]
    for name, found, repeats, sizes in (
        ("excess", drawn(run, excesses, keys, cheap), cheap, SIZES),
        ("mean of KLOM", drawn(run, means, of_klom, costly), costly, SIZES[-1:]),
    ):
        columns = [f"{how}, N = {n}" for how in ("paired", "unpaired") for n in sizes]
        places = [(n, column) for column in (0, 2) for n in sizes]
        rows = [
            [case.name, *(told(found[case, n][:, c : c + 2], n, name) for n, c in places)]
            for case in dict.fromkeys(case for case, _ in found)
        ]
        print(
            f"Difference of {name}: share of *better* or *worse* where nothing differs, and of "
            f"changes seen that are as large as is told (mean of what is told); "
            f"{errors(repeats, 0.05, 0.8)}.\n"
        )
        print(table(["margins", *columns], rows))
    rows = []
    for method, other in PAIRS:
        found = drawn(run, pairs, [(Real(method), n) for n in SIZES], cheap, other)
        rows.append([f"`{method}` less `{other}`", *map(held, found.values(), SIZES)])
    print(
        "Difference of excess of two methods on the same models: share of 95 % intervals that hold "
        f"it (mean error over true sd; error unpaired over paired); {errors(cheap, 0.95)}.\n"
    )
    print(table(["methods", *(f"N = {n}" for n in SIZES)], rows))


def estimates_of(found: np.ndarray, n: int, name: str) -> list[Estimate]:
    """Of values and errors [repeats, 2]."""
    if name == "excess":
        return [Estimate(float(value), float(se), n) for value, se in found]
    return [with_error(float(value), float(se), n) for value, se in found]


def told(found: np.ndarray, n: int, name: str) -> str:
    """Wrong words; changes seen of the size that is told on average, and that size."""
    differences = estimates_of(found, n, name)
    wrong = [_word(d) != "no difference" for d in differences]
    size = float(np.mean([smallest_seen(d) for d in differences]))
    moved = [Estimate(d.value + size, d.se, n, draws=d.draws) for d in differences]
    seen = [_word(d) == "worse" for d in moved]
    return f"{share(wrong, 0.0, MOST_WRONG)}; {share(seen, LEAST_SEEN)} ({short(size)})"


def _word(difference: Estimate) -> str | None:
    return Comparison(0.0, difference.value, difference, ALL).change


def held(found: np.ndarray, n: int) -> str:
    """Coverage, and what it costs."""
    value, se, alone = found.T
    expected = float(value.mean())
    ends = (Estimate(float(v), float(e), n).interval() for v, e in zip(value, se, strict=True))
    hold = [low <= expected <= high for low, high in ends]
    ratio, gain = se.mean() / value.std(ddof=1), alone.mean() / se.mean()
    return f"{share(hold, LEAST_COVERED)} ({ratio:.2f}; {gain:.1f})"
