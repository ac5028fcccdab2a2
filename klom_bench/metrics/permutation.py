"""What a perfect unlearner would do to these very models: labels are dealt out anew.

If the unlearned models were retrained ones, nothing but chance would say which of all models are
called oracles. So the law of any statistic is known, whatever margins look like and however points
move together, and a test is exact.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.quick import few_enough, klom_of_many
from klom_bench.metrics.summary import STATISTICS

SEED = 0
KLOM_PERMUTATIONS = 200
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
    n, m, some = len(oracle), len(unlearned), few_enough(np.arange(oracle.shape[1]))
    orders = [rng.permutation(n + m) for _ in range(KLOM_PERMUTATIONS)]

    def deal(o: np.ndarray, u: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        pool = np.concatenate([o, u])
        return ((pool[order[:n]], pool[order[n:]]) for order in orders)

    points = klom_of_many(oracle[:, some], unlearned[:, some], KLOM_PERMUTATIONS, deal, estimator)
    if not len(some):
        points = np.full((KLOM_PERMUTATIONS, 2, 1), np.nan)
    of_all = (points.mean(2), *np.percentile(points, [50, 95, 99], axis=2))
    return {
        reverse: {name: x[:, int(reverse)] for name, x in zip(STATISTICS, of_all, strict=True)}
        for reverse in (False, True)
    }


class RetrainedJson(TypedDict):
    """`Retrained` in records."""

    p: float
    energy: dict[str, float]
    outline: dict[str, float]


@dataclass(frozen=True)
class Retrained:
    """Could these be retrained models? p-values; small: no.

    p: of all splits together. energy: of whole models, a split. outline: of each model's mean and
    spread alone, a split, which shows noise on outputs.
    """

    p: float
    energy: Mapping[str, float]
    outline: Mapping[str, float]

    def as_json(self) -> "RetrainedJson":
        """Plain numbers."""
        return {"p": self.p, "energy": {**self.energy}, "outline": {**self.outline}}

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
    members whose margins were shuffled point by point (measured, `klom help calibration`). The
    splits share their permutations, so that the smallest of their p-values has an exact one, too.
    """
    n, m = len(oracle), len(unlearned)
    contrast = _contrasts(n, m, permutations)
    distances = {name: _distances(oracle, unlearned, r) for name, r in splits.items() if len(r)}
    energy = {name: _ranks(contrast, whole) for name, (whole, _) in distances.items()}
    outline = {name: _ranks(contrast, part) for name, (_, part) in distances.items()}
    least = np.min([np.ones(len(contrast)), *energy.values()], axis=0)
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
        z = np.concatenate([oracle[:, part], unlearned[:, part]]).astype(np.float64)
        z = _standardised(z)
        squared += _squared(z)
        sums += z.sum(1)
        squares += (z * z).sum(1)
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
