"""What the margins of a cell say beside the summaries of KLOM: errors, excess, chance, a word."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.excess import BothWays, cut, excess, mean_excess
from klom_bench.metrics.floor import floor
from klom_bench.metrics.permutation import Retrained, permuted_klom, retrained
from klom_bench.metrics.resampling import Errors, klom_errors, with_error
from klom_bench.metrics.summary import STATISTICS, Summary
from klom_bench.metrics.word import CANNOT, Word, word

RARE = 0.999
"""One side of a score so low that chance makes it in one of a thousand runs."""
Permuted = Callable[[str], Mapping[bool, Mapping[str, np.ndarray]]]
"""KLOM's statistics of models dealt out anew, by split; computed when first asked for."""


@dataclass(frozen=True)
class Evidence:
    """By split, but for the test and the word.

    excess, nothing: of the unlearned models and of the originals they came from; cut: excess with
    margins cut to three robust standard deviations. These three and `test` are there with 5 models
    a side or more. errors: of KLOM and of its reverse. highest: KLOM of the worst point.
    below_floor: splits that score lower than retrained models would.
    """

    excess: Mapping[str, BothWays]
    nothing: Mapping[str, BothWays]
    cut: Mapping[str, float]
    errors: Mapping[str, tuple[Errors, Errors]]
    highest: Mapping[str, float]
    test: Retrained | None
    word: Word
    below_floor: tuple[str, ...]
    permuted: Permuted


def evidence(
    cell: Cell,
    oracle: np.ndarray,
    unlearned: np.ndarray,
    nothing: Mapping[str, BothWays],
    points: np.ndarray,
    scores: Mapping[str, Summary],
) -> Evidence:
    """Of margins [oracles, points] and [N, points], and of the KLOM between them [points]."""
    splits = cell.splits

    @cache
    def permuted(split: str) -> Mapping[bool, Mapping[str, np.ndarray]]:
        rows = splits[split]
        return permuted_klom(oracle[:, rows], unlearned[:, rows], cell.estimator)

    errors = klom_errors(oracle, unlearned, splits, cell.estimator)
    below = [
        split
        for split in splits
        if not cell.method.sees_oracles
        and _below_floor(cell, scores[split].mean, errors[split][0].mean, split, permuted)
    ]
    of = mean_excess(oracle, unlearned, splits)
    test = retrained(oracle, unlearned, splits) if of else None
    tame = excess(*cut(oracle, unlearned)) if of else None
    return Evidence(
        excess=of,
        nothing=nothing,
        cut={} if tame is None else {split: _mean(tame[rows]) for split, rows in splits.items()},
        errors=errors,
        highest={s: float(points[r].max(initial=-np.inf)) for s, r in splits.items()},
        test=test,
        word=word(of, nothing, test) if test else CANNOT,
        below_floor=tuple(below),
        permuted=permuted,
    )


def _below_floor(cell: Cell, score: float, error: float, split: str, permuted: Permuted) -> bool:
    """Whether a score is lower than chance makes it, p < .001.

    The simulated floor is asked first: it costs nothing, but holds for Gaussian margins only.
    """
    below = floor(cell.estimator, cell.oracles, cell.members).mean - score
    if not below > with_error(score, error, min(cell.oracles, cell.members)).times_error(RARE):
        return False
    means = permuted(split)[False][STATISTICS[0]]
    chance = Estimate(float(means.mean()), float(means.std(ddof=1)), len(means))
    return chance.surely_above(score, RARE)


def _mean(points: np.ndarray) -> float:
    return float(points.mean()) if points.size else float("nan")
