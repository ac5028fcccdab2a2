"""How often is a word right? Random subsets of pools of real models, and of wrong ones made of them.

What is true of a case is decided by all models of its pool: within a zone both neighbouring words.
"""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from calibration.blind_spots import models_of
from calibration.failures import FAILURES
from calibration.jobs import CHUNK, Run
from calibration.sources import REAL, seeded
from calibration.tables import short, table

from klom_bench.metrics.excess import BothWays, mean_excess
from klom_bench.metrics.permutation import retrained
from klom_bench.metrics.word import CANNOT, FORGETS, IN_PART, REST, WORDS, Word, word

SEED = 7
FORGET_SETS = ("forget_set_2", "forget_set_5", "class_9")
METHODS = (
    "ga",
    "scrub",
    "influence",
    "eu_k",
    "finetune",
    "neggrad_plus",
    "random_label",
    "salun",
)
ORIGINALS, ORACLES = 400, 800
DAMAGE = (
    "retrain",
    "10 % of members untouched",
    "40 % of members untouched",
    "5 % of members ruined",
    "retrain, noise of 0.5 sd on outputs",
    "retrain, noise of 1 sd on outputs",
    "retrain, noise of 2 sd on outputs",
    "rest 1 sd larger",
)
SIZES = (20, 50, 100)
REPEATS = 200
PERMUTATIONS = 199
MOST_WRONG = 0.05

Excess = Mapping[str, BothWays]


def given(pool: str, n: int, repeats: range) -> np.ndarray:
    """[repeats, cases]: the word of each case, as its place in the list of words."""
    found, splits = [], REAL[pool].splits
    for k in repeats:
        line = []
        for oracles, originals, unlearned in drawn(pool, n, seeded("words", pool, n, k)):
            if not line:
                nothing = mean_excess(oracles, originals, splits)
            excess = mean_excess(oracles, unlearned, splits)
            test = retrained(oracles, unlearned, splits, PERMUTATIONS)
            line.append(WORDS.index(word(excess, nothing, test)))
        found.append(line)
    return np.array(found)


def drawn(
    pool: str, n: int | None, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Oracles, originals, unlearned models of every case, from the same subset; None: all."""
    known = REAL[pool]
    rows = rng.permutation(len(known.methods["do_nothing"]))[:n]
    originals = known.methods["do_nothing"][rows]
    models = models_of(pool, rng, n or min(len(known.oracles) // 2, len(rows)))
    oracles = models.oracles if n else known.oracles
    for made in known.methods.values():
        yield oracles, originals, made[rows]
    for name in DAMAGE:
        yield models.oracles, originals, FAILURES[name](rng, models).astype(np.float32)


def cases(pool: str) -> list[str]:
    """Names, in the order of `drawn`."""
    return [*(f"`{method}`" for method in REAL[pool].methods), *DAMAGE]


def true_words(pool: str) -> list[set[Word]]:
    """Of every case, by all models. What is like a retrain is a retrain, whatever the numbers."""
    found, splits = [], REAL[pool].splits
    all_models = drawn(pool, None, seeded("all", pool))
    for name, (oracles, originals, unlearned) in zip(cases(pool), all_models, strict=True):
        true = _true(*(mean_excess(oracles, x, splits) for x in (unlearned, originals)))
        if name in ("10 % of members untouched", "retrain, noise of 0.5 sd on outputs"):
            true = {"forgets, keeps the rest"}
        found.append(true | ({"like a retrain"} if name == "retrain" else set()))
    return found


def _true(excess: Excess, nothing: Excess) -> set[Word]:
    ways = ("forward", "reverse")

    def values(of: Excess, split: str) -> np.ndarray:
        return np.array([getattr(of[split], way).value for way in ways])

    worse = max((values(excess, s) - values(nothing, s)).max() for s in ("retain", "val"))
    gone = 1 - values(excess, "forget") / values(nothing, "forget")
    true: set[Word] = {"breaks the rest"} if worse > REST[0] else set()
    if worse >= REST[2]:
        return true
    if gone.min() > FORGETS[0]:
        true |= {"forgets, keeps the rest"}
    if gone.min() < FORGETS[2]:
        true |= {"forgets in part"} if gone[0] > IN_PART[0] else set()
        true |= {"no better than doing nothing"} if gone[0] < IN_PART[2] else set()
    return true


def print_words(run: Run, repeats: int = REPEATS) -> None:
    """Words of every case, and how often they are right."""
    pools = [name for name in REAL if name.startswith("digits, ")]
    parts = [range(i, min(i + CHUNK, repeats)) for i in range(0, repeats, CHUNK)]
    rows, right, cannot, wrong = [], {}, {}, {}
    done = iter(run(given, [(pool, n, part) for pool in pools for n in SIZES for part in parts]))
    for pool in pools:
        by_size = [np.concatenate([next(done) for _ in parts]) for _ in SIZES]
        for i, (case, true) in enumerate(zip(cases(pool), true_words(pool), strict=True)):
            cells = []
            for n, words in zip(SIZES, by_size, strict=True):
                said = [WORDS[place] for place in words[:, i]]
                of_case = right.setdefault(n, {}), cannot.setdefault(n, {}), wrong.setdefault(n, {})
                of_case[0][pool, case] = np.mean([w in true for w in said])
                of_case[1][pool, case] = np.mean([w == CANNOT for w in said])
                of_case[2][pool, case] = np.mean([w not in true and w != CANNOT for w in said])
                counts = Counter(said).most_common()
                cells.append("; ".join(f"{w} {short(c / repeats, 2)}" for w, c in counts))
            rows.append([pool, case, " or ".join(sorted(true)), *cells])
    print(table(["pool", "case", "true", *(f"N = {n}" for n in SIZES)], rows))
    of_sizes = []
    for n in SIZES:
        worst = sorted(wrong[n].items(), key=lambda item: -item[1])[:3]
        named = "; ".join(f"{short(w)} {pool} {case}" for (pool, case), w in worst)
        means = (float(np.mean(list(x[n].values()))) for x in (right, cannot, wrong))
        many = sum(w > MOST_WRONG for w in wrong[n].values())
        of_sizes.append([n, *map(short, means), many, named])
    columns = ["N", "a true word", "cannot be told", "wrong", "cases above .05", "worst"]
    print(table(columns, of_sizes))
