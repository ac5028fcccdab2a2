"""What a perfect unlearner would do to these very models: labels are dealt out anew.

If the unlearned models were retrained ones, nothing but chance would say which of all models are
called oracles. So the law of any statistic is known, whatever margins look like and however points
move together, and a test is exact.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.quick import quick_klom
from klom_bench.metrics.summary import STATISTICS

SEED = 0
KLOM_PERMUTATIONS = 200
MOST_POINTS = 5_000
TEST_PERMUTATIONS = 999
CHUNK = 1 << 12
ROUNDING = 1e-9


def permuted_klom(
    oracle: np.ndarray, unlearned: np.ndarray, estimator: Estimator
) -> dict[bool, dict[str, np.ndarray]]:
    """Statistics of KLOM (False) and of its reverse (True) of models dealt out anew, [200] each.

    Margins of a split; of at most 5,000 of its points, drawn once.
    """
    rng = np.random.default_rng(SEED)
    n, points = len(oracle), oracle.shape[1]
    pool = np.concatenate([oracle, unlearned]).astype(np.float32, copy=False)
    if points > MOST_POINTS:
        pool = pool[:, np.sort(rng.choice(points, MOST_POINTS, replace=False))]
    drawn = []
    for _ in range(KLOM_PERMUTATIONS):
        order = rng.permutation(len(pool))
        both = np.stack(quick_klom(pool[order[:n]], pool[order[n:]], estimator))
        drawn.append([both.mean(1), *np.percentile(both, [50, 95, 99], axis=1)])
    every = np.array(drawn)  # [permutations, statistics, directions]
    return {
        reverse: {name: every[:, k, int(reverse)] for k, name in enumerate(STATISTICS)}
        for reverse in (False, True)
    }


@dataclass(frozen=True)
class Retrained:
    """Could these be retrained models? p-values; small: no.

    p: of all splits together. energy: of whole models, a split. outline: of each model's mean and
    spread alone, a split, which shows noise on outputs.
    """

    p: float
    energy: Mapping[str, float]
    outline: Mapping[str, float]

    @property
    def plausible(self) -> bool:
        """Whether no test on any split says no at 5 %."""
        return min([*self.energy.values(), *self.outline.values()], default=1.0) > 0.05


def retrained(
    oracle: np.ndarray,
    unlearned: np.ndarray,
    splits: Mapping[str, np.ndarray],
    permutations: int = TEST_PERMUTATIONS,
) -> Retrained:
    """The energy distance between whole models, against that of models dealt out anew.

    It sees means, spreads, and some joint laws: members whose points all move together, but hardly
    members whose margins were shuffled point by point (measured, `klom help blind-spots`). The
    splits share their permutations, so that the smallest of their p-values has an exact one, too.
    """
    n, m = len(oracle), len(unlearned)
    contrast = _contrasts(n, m, permutations)
    distances = {name: _distances(oracle, unlearned, r) for name, r in splits.items() if len(r)}
    energy = {name: _ranks(contrast, whole) for name, (whole, _) in distances.items()}
    outline = {name: _ranks(contrast, part) for name, (_, part) in distances.items()}
    least = np.min([*energy.values()], axis=0)
    return Retrained(
        float(np.mean(least <= least[0])),
        {name: float(p[0]) for name, p in energy.items()},
        {name: float(p[0]) for name, p in outline.items()},
    )


def _contrasts(n: int, m: int, permutations: int) -> np.ndarray:
    """[1 + permutations, n + m]: 1/n of those called oracles, -1/m of the rest; the truth first."""
    rng = np.random.default_rng(SEED)
    of_truth = np.concatenate([np.full(n, 1 / n), np.full(m, -1 / m)])
    return np.stack([of_truth, *(rng.permutation(of_truth) for _ in range(permutations))])


def _ranks(contrast: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The p-value of every labelling: the share of all that have so large an energy distance."""
    energy = -((contrast @ distance) * contrast).sum(1)
    ordered = np.sort(energy)
    least = energy - ROUNDING * np.abs(energy)
    found: np.ndarray = (len(energy) - np.searchsorted(ordered, least)) / len(energy)
    return found


def _distances(
    oracle: np.ndarray, unlearned: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """[n + m, n + m] between models: by their standardised margins, and by the mean and sd of
    these."""
    models = len(oracle) + len(unlearned)
    squared, sums, squares = np.zeros((models, models)), np.zeros(models), np.zeros(models)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        z = _standardised(np.concatenate([oracle[:, part], unlearned[:, part]]))
        squared += _squared(z)
        sums += z.sum(1, dtype=np.float64)
        squares += (z * z).sum(1, dtype=np.float64)
    mean = sums / len(rows)
    sd = np.sqrt(np.maximum(squares / len(rows) - mean**2, 0))
    outline = _standardised(np.stack([mean, sd], 1))
    return np.sqrt(squared), np.sqrt(_squared(outline))


def _squared(z: np.ndarray) -> np.ndarray:
    of_each = (z * z).sum(1)
    found: np.ndarray = np.maximum(of_each[:, None] + of_each - 2 * (z @ z.T), 0)
    return found


def _standardised(x: np.ndarray) -> np.ndarray:
    """Columns of mean 0 and standard deviation 1; those that do not vary are 0."""
    x = x - x.mean(0)
    sd = x.std(0)
    found: np.ndarray = x / np.where(sd > 0, sd, 1)
    return found
