"""What each number sees of models that are wrong in known ways."""

from collections import Counter

import numpy as np
from calibration.failures import FAILURES, Models
from calibration.jobs import Run
from calibration.sources import REAL, seeded
from calibration.tables import short, table

from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import mean_excess
from klom_bench.metrics.permutation import retrained
from klom_bench.metrics.quick import quick_klom
from klom_bench.metrics.word import WORDS, word

SIZE = 100
REPEATS = 40
COLUMNS = (
    "unlearned models",
    "KLOM: mean",
    "P95",
    "max",
    "reverse: mean",
    "P95",
    "excess",
    "reverse",
    "p, energy",
    "p, outline",
    "word (share)",
)


def models_of(task: str, rng: np.random.Generator, n: int) -> Models:
    """Random models of a pool, none twice."""
    pool = REAL[task]
    rows = rng.permutation(len(pool.oracles))
    originals = pool.methods["do_nothing"]
    forget = pool.splits["forget"]
    sd = pool.oracles.std(0)
    away = np.abs(originals.mean(0) - pool.oracles.mean(0)) / sd
    return Models(
        pool.oracles[rows[:n]],
        pool.oracles[rows[n : 2 * n]],
        originals[rng.permutation(len(originals))[:n]],
        sd,
        forget[np.argsort(-away[forget])],
        np.concatenate([pool.splits["retain"], pool.splits["val"]]),
    )


def seen(name: str, repeat: int) -> np.ndarray:
    """What every column but the first shows; of the word its place in the list of words."""
    rng = seeded("blind spots", repeat)
    models, splits = models_of("digits", rng, SIZE), REAL["digits"].splits
    unlearned = FAILURES[name](rng, models).astype(np.float32)
    found = mean_excess(models.oracles, unlearned, splits)
    test = retrained(models.oracles, unlearned, splits)
    rows = splits["forget"]
    forward, reverse = quick_klom(
        models.oracles[:, rows], unlearned[:, rows], ESTIMATORS["default"]
    )
    said = word(found, mean_excess(models.oracles, models.originals, splits), test)
    return np.array(
        [
            forward.mean(),
            np.percentile(forward, 95),
            forward.max(),
            reverse.mean(),
            np.percentile(reverse, 95),
            found["forget"].forward.value,
            found["forget"].reverse.value,
            test.p,
            min(test.outline.values()),
            WORDS.index(said),
        ]
    )


def print_blind_spots(run: Run, repeats: int = REPEATS) -> None:
    """The table."""
    done = run(seen, [(name, k) for name in FAILURES for k in range(repeats)])
    by_name = np.array(done).reshape(len(FAILURES), repeats, -1)
    rows = []
    for name, found in zip(FAILURES, by_name, strict=True):
        means = [short(float(x), 2) for x in found[:, :7].mean(0)]
        p = [short(float(x)) for x in np.median(found[:, 7:9], axis=0)]
        (place, count), *_ = Counter(found[:, 9].astype(int).tolist()).most_common(1)
        rows.append([name, *means, *p, f"{WORDS[place]} ({short(count / repeats, 2)})"])
    print(
        f"`digits`, the forget points, N = {SIZE}, means of {repeats} repeats; p: medians, of the"
        " energy test of all splits together and the lowest outline test of the three; the word"
        " given most often.\n"
    )
    print(table(COLUMNS, rows))
