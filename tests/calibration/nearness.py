"""Nearer or farther: how often it is said, and whether the share of the way is right."""

import math

import numpy as np
from calibration.jobs import Run, drawn
from calibration.sources import LAWS, seeded
from calibration.tables import errors, share, short, table
from calibration.triples import EQUAL, SIZES, OfLaw, OfPool

from klom_bench.metrics.excess import mean_excess
from klom_bench.metrics.nearer import NEARNESSES, nearer

REPEATS = 1000
MOST_WRONG = 0.06
LEAST_COVERED = 0.90
ON_SET_2 = (
    "ga lr=0.04", "random_label", "salun", "ga", "finetune", "scrub", "eu_k", "influence"
)  # fmt: skip
Case = OfPool | OfLaw


def equal() -> list[Case]:
    """Models that are as far from the oracles as the originals are."""
    sets = ("forget_set_2", "forget_set_5")
    real = [OfPool(name, made) for name in sets for made in EQUAL]
    return [*real, *(OfLaw(law, 1.0, -1.0) for law in LAWS)]


def others() -> list[Case]:
    """Models that are nearer, or farther."""
    real = [OfPool("forget_set_2", made) for made in ON_SET_2]
    on_val = [OfPool("forget_set_2", made, "val") for made in ("ga", "influence", "scrub")]
    return [*real, *on_val, *(OfLaw(law, 1.0, left) for law in LAWS for left in (0.5, 0.1))]


def said(case: Case, n: int, repeats: range) -> np.ndarray:
    """[repeats, 4]: the word, as its place in the list; the share and the ends of its interval,
    nan where it is not told."""
    found = []
    for k in repeats:
        oracle, original, made = case.draw(seeded("nearness", case, n, k), n)
        rows = {"all": np.arange(oracle.shape[1])}
        nothing, now = (mean_excess(oracle, x, rows)["all"].forward for x in (original, made))
        of = nearer(nothing, now)
        ends = (math.nan, math.nan, math.nan)
        if of.share is not None:
            ends = (of.share.value, *of.share.interval())
        found.append([NEARNESSES.index(of.word), *ends])
    return np.array(found)


def print_nearness(run: Run, repeats: int = REPEATS) -> None:
    """Both tables."""
    cases = equal()
    found = drawn(run, said, [(case, n) for case in cases for n in SIZES], repeats)
    words = NEARNESSES[:2]
    columns = [
        "as far as doing nothing",
        *(f"{w.split()[0]}, N = {n}" for w in words for n in SIZES),
    ]
    rows = [
        [case.name, *(told(found[case, n], w, MOST_WRONG) for w in words for n in SIZES)]
        for case in cases
    ]
    print(f"How often is it said at equal distance? {errors(repeats, 0.05)}.\n")
    print(table(columns, rows))
    cases = others()
    found = drawn(run, said, [(case, n) for case in cases for n in SIZES], repeats)
    columns = ["unlearned models", "share of the way"]
    columns += [f"said to be {w.split()[0]}, N = {n}" for w in words for n in SIZES]
    columns += [f"interval of the share, N = {n}" for n in SIZES]
    rows = []
    for case in cases:
        nothing, now = case.excess
        true = 1 - now / nothing
        said_of = [told(found[case, n], w) for w in words for n in SIZES]
        held = [covered(found[case, n], true) for n in SIZES]
        rows.append([case.name, short(true, 2), *said_of, *held])
    print(
        "How often is it said elsewhere, and how often does the interval of the share hold the true"
        " one (half of its width, in the median; how often it is told)?"
        f" {errors(repeats, 0.9, 0.95)}.\n"
    )
    print(table(columns, rows))


def told(found: np.ndarray, word: str, most: float = 1.0) -> str:
    """How often a word is said."""
    return share(found[:, 0] == NEARNESSES.index(word), 0.0, most)


def covered(found: np.ndarray, true: float) -> str:
    """Of the shares that are told."""
    there = found[np.isfinite(found[:, 1])]
    if not len(there):
        return "not told"
    value, low, high = there[:, 1:].T
    held = share((low <= true) & (true <= high), LEAST_COVERED)
    return (
        f"{held} (±{short(float(np.median(high - value)), 2)}; {short(len(there) / len(found), 2)})"
    )
