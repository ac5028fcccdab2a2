"""What a few models tell, looked at once."""

from collections.abc import Sequence

import numpy as np
from calibration.jobs import Key, Run, drawn
from calibration.looks import METHODS, estimates, excesses, expected
from calibration.sources import Real, Source, seeded
from calibration.tables import errors, share, short, table

from klom_bench.metrics.estimate import judged
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor
from klom_bench.metrics.permutation import retrained
from klom_bench.metrics.quick import quick_klom

FEW = (5, 10, 20, 50, 100)
FEWEST = (2, *FEW)
"""Of models that KLOM needs."""
LIMIT = 0.5
"""That of a gate; a shift of every margin by one standard deviation."""
REPEATS, TESTS = 1000, 200
PERMUTATIONS = 199


def means(case: Source, n: int, repeats: range) -> np.ndarray:
    """[repeats, 1]: KLOM's mean over the forget points."""
    rows, found = case.splits["forget"], []
    for k in repeats:
        both = case.draw(seeded("means", case, n, k), n)
        oracle, unlearned = (x[:, rows].astype(np.float32) for x in both)
        found.append([quick_klom(oracle, unlearned, ESTIMATORS["default"])[0].mean()])
    return np.array(found)


def told(case: Source, n: int, repeats: range) -> np.ndarray:
    """[repeats, 1]: whether the test of whole models tells n of them from oracles at 5 %."""
    found = []
    for k in repeats:
        oracle, unlearned = case.draw(seeded("told", case, n, k), n)
        found.append([retrained(oracle, unlearned, case.splits, PERMUTATIONS).p <= 0.05])
    return np.array(found)


def print_few(run: Run, cheap: int = REPEATS, tests: int = TESTS) -> None:
    """All tables."""
    methods = [Real(m) for m in ("do_nothing", *METHODS, "retrain")]
    found = drawn(run, excesses, [(case, FEW[-1]) for case in methods], cheap, FEW)
    of = {case: lines for (case, _), lines in found.items()}
    print_widths(of, cheap)
    print_decided(of, cheap)
    print_means(drawn(run, means, [(c, n) for c in methods for n in FEWEST], tests), tests)
    whole = [Real(case.method, whole=True) for case in methods]
    print_told(drawn(run, told, [(case, n) for case in whole for n in FEW], tests), tests)


def print_widths(of: dict[Source, np.ndarray], repeats: int) -> None:
    """Half of the interval of excess."""
    rows = []
    for case, lines in of.items():
        truth, cells = expected(lines), []
        each = zip(*(estimates(line, FEW) for line in lines), strict=True)
        for every in each:
            ends = [e.interval() for e in every]
            half = np.median([(high - low) / 2 for low, high in ends])
            held = share([low <= truth <= high for low, high in ends])
            cells.append(f"±{short(float(half), 2)} ({held})")
        rows.append([case.name, short(truth, 2), *cells])
    print(
        "Half of the 95 % interval of excess on the forget points, median (share of intervals that"
        f" hold the expected score at N = 100); {errors(repeats, 0.95)}.\n"
    )
    print(table(["excess of", "E", *(f"N = {n}" for n in FEW)], rows))


def print_decided(of: dict[Source, np.ndarray], repeats: int) -> None:
    """What so many models, looked at once, decide."""
    rows = []
    for case, lines in of.items():
        each = zip(*(estimates(line, FEW) for line in lines), strict=True)
        found = [[judged(e, LIMIT) for e in every] for every in each]
        cells = [
            " / ".join(short(f.count(verdict) / repeats, 2) for verdict in ("fail", "pass"))
            for f in found
        ]
        rows.append([case.name, short(expected(lines), 2), *cells])
    print(
        f"Shares of runs that fail and that pass where the limit on excess is {LIMIT:g} and there"
        f" is one look; {errors(repeats, 0.5)}.\n"
    )
    print(table([f"at {LIMIT:g}", "E", *(f"N = {n}" for n in FEW)], rows))


def print_means(of: dict[Key, np.ndarray], repeats: int) -> None:
    """KLOM with few models."""
    estimator = ESTIMATORS["default"]
    rows = [["the floor, simulated", *(short(floor(estimator, n, n).mean, 2) for n in FEWEST)]]
    rows += by_size(of, FEWEST)
    print(f"Mean KLOM of the forget points; means of {repeats} repeats.\n")
    print(table(["KLOM of", *(f"N = {n}" for n in FEWEST)], rows))


def print_told(of: dict[Key, np.ndarray], repeats: int) -> None:
    """The test of whole models with few models."""
    print(
        f"Share of runs in which the test of whole models has p ≤ .05, {PERMUTATIONS} permutations;"
        f" {errors(repeats, 0.05, 0.5)}.\n"
    )
    print(table(["tested", *(f"N = {n}" for n in FEW)], by_size(of, FEW)))


def by_size(of: dict[Key, np.ndarray], sizes: Sequence[int]) -> list[list[str]]:
    """A row a case, of means."""
    cases = dict.fromkeys(case for case, _ in of)
    return [[c.name, *(short(float(of[c, n].mean()), 2) for n in sizes)] for c in cases]
