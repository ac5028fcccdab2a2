"""From margins to a record: KLOM, errors, excess, chance, a word, and gates.

Needs neither models nor torch: margins may come from anywhere.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from klom_bench.cell.gates import FREE_OF_N, METRICS
from klom_bench.cell.limits import Limits
from klom_bench.cell.pairing import fingerprint, pairing_of
from klom_bench.cell.record import Excess, Histogram, Record
from klom_bench.cell.record_json import Asked
from klom_bench.metrics.cores import together
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.excess import FEWEST, BothWays, cut, excess, mean_excess
from klom_bench.metrics.floor import floor, floor_limits
from klom_bench.metrics.klom import klom, klom_and_reverse
from klom_bench.metrics.leftover import Leftover, leftover
from klom_bench.metrics.nearer import nearer
from klom_bench.metrics.permutation import Retrained, permuted_klom, retrained
from klom_bench.metrics.resampling import Errors, klom_errors, with_error
from klom_bench.metrics.summary import STATISTICS, Summary, summarise
from klom_bench.metrics.word import CANNOT, Word, WordAlone, word, word_alone

RARE = 0.999
"""One side of a score so low that chance makes it in one of a thousand runs."""
QUANTILES = (5, 25, 50, 75, 95, 99, 100)
"""In percent."""
WORST = 5
BINS = 20
"""Of a histogram, between the least and the largest margin of all three ensembles."""
Permuted = Callable[[str], Mapping[bool, Mapping[str, np.ndarray]]]
"""KLOM's statistics of models dealt out anew, by split; computed when first asked for."""


@dataclass(frozen=True, eq=False)
class References:
    """What unlearned models are scored against, and what else is the same for all of a cell.

    Margins [models, points] of oracles, and of the originals, where these are known. splits: the
    columns of each. members: unlearned models.
    """

    oracle: np.ndarray
    original: np.ndarray | None
    splits: Mapping[str, np.ndarray]
    estimator: Estimator
    members: int

    def summaries(self, points: np.ndarray) -> dict[str, Summary]:
        """Of scores [points], by split."""
        return {split: summarise(points[rows]) for split, rows in self.splits.items()}

    @cached_property
    def nothing(self) -> Mapping[str, BothWays]:
        """Excess of the originals."""
        if self.original is None:
            return {}
        return mean_excess(self.oracle, self.original, self.splits)

    def left_over(self, unlearned: np.ndarray) -> Leftover | None:
        """How much is left of the originals' mean shift on the forget set."""
        if self.original is None:
            return None
        sides = (self.oracle, self.original, unlearned)
        return leftover(*(x[:, self.splits["forget"]] for x in sides))

    @cached_property
    def fingerprints(self) -> tuple[str, str | None]:
        """Of oracles and originals."""
        original = None if self.original is None else fingerprint(self.original)
        return fingerprint(self.oracle), original

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """The parts of a record that do not depend on what was unlearned."""
        oracle, estimator, splits = self.oracle, self.estimator, self.splits
        sides = (estimator, len(oracle), self.members)
        idle = back = np.full(oracle.shape[1], np.nan)
        if self.original is not None:
            idle, back = klom_and_reverse(oracle, self.original, estimator)
        beyond = oracle.dtype.type(2 * max(oracle.max(), -oracle.min()) + 1)
        away = np.broadcast_to(beyond, (self.members, oracle.shape[1]))
        return {
            "do_nothing": self.summaries(idle),
            "do_nothing_reverse": self.summaries(back),
            "nowhere": self.summaries(klom(oracle, away, estimator)),
            "floor": dict.fromkeys(splits, floor(*sides)),
            "floor_reverse": dict.fromkeys(splits, floor(*sides, reverse=True)),
            "perfect": {
                split: floor_limits(*sides, _coarse(len(rows)))
                if len(rows)
                else dict.fromkeys(STATISTICS, math.nan)
                for split, rows in splits.items()
            },
            "counts": {split: len(rows) for split, rows in splits.items()},
            "excess_do_nothing": _excess(self.nothing, {}),
        }


def scored(
    asked: Asked,
    references: References,
    unlearned: np.ndarray,
    limits: Limits | None = None,
    sees_oracles: bool = False,
    **others: Any,
) -> Record:
    """The record of unlearned margins [members, points], held against limits where there are any.

    others: what margins do not say, by the names of a record.
    """
    oracle, splits, estimator = references.oracle, references.splits, references.estimator
    forward, backward = klom_and_reverse(oracle, unlearned, estimator)
    scores, reverse = references.summaries(forward), references.summaries(backward)

    @cache
    def permuted(split: str) -> Mapping[bool, Mapping[str, np.ndarray]]:
        rows = splits[split]
        return permuted_klom(oracle[:, rows], unlearned[:, rows], estimator)

    def perfect(metric: str) -> float | None:
        back, split, statistic = METRICS[metric]
        if statistic in FREE_OF_N:
            return None
        found = float(np.quantile(permuted(split)[back][statistic], 0.95))
        return None if math.isnan(found) else found

    models = min(len(oracle), len(unlearned))
    enough = models >= FEWEST
    drawn = klom_errors(oracle, unlearned, splits, estimator)
    of, test, tame, fixed = together(
        lambda: mean_excess(oracle, unlearned, splits),
        lambda: retrained(oracle, unlearned, splits) if enough else None,
        lambda: excess(*cut(oracle, unlearned)) if enough else None,
        lambda: references.fixed,
    )
    errors = {
        split: _errors((scores[split], reverse[split]), of, models) for split, of in drawn.items()
    }
    below = [
        split
        for split in splits
        if not sees_oracles and _below_floor(references, errors[split]["mean"], split, permuted)
    ]
    tamed = {} if tame is None else {split: _mean(tame[rows]) for split, rows in splits.items()}
    bad = np.flatnonzero(np.isnan(forward))
    worst = {split: _worst(forward, rows) for split, rows in splits.items()}
    record = Record(
        task=asked["task"],
        forget_set=asked["forget_set"],
        forget_set_sha256=asked["forget_set_sha256"],
        method=asked["method"],
        setting=asked["setting"],
        members=asked["members"]["unlearned"],
        oracles=asked["members"]["oracle"],
        estimator=estimator,
        seed=asked["seed"],
        scores=scores,
        reverse=reverse,
        quantiles={split: _quantiles(forward[rows]) for split, rows in splits.items()},
        errors=errors,
        highest={s: float(forward[r].max(initial=-np.inf)) for s, r in splits.items()},
        excess=_excess(of, tamed),
        nearer={
            split: nearer(nothing.forward, of[split].forward)
            for split, nothing in references.nothing.items()
        },
        leftover=references.left_over(unlearned),
        retrained=test,
        word=_word(references, of, test),
        below_floor=tuple(below),
        worst=worst,
        histograms=tuple(
            _histogram(point, oracle, references.original, unlearned)
            for point, _ in worst["forget"]
        ),
        without_score=(len(bad), int(bad[0]) if len(bad) else None),
        sees_oracles=sees_oracles,
        points=forward,
        reverse_points=backward,
        splits=splits,
        pairing=pairing_of(*references.fingerprints, of, drawn),
        **fixed,
        **others,
    )
    return limits.held(record, perfect) if limits else record


def _below_floor(references: References, score: Estimate, split: str, permuted: Permuted) -> bool:
    """Whether a score is lower than chance makes it, p < .001.

    The simulated floor is asked first: it costs nothing, but holds for Gaussian margins only.
    """
    usual = floor(references.estimator, len(references.oracle), references.members).mean
    if not usual - score.value > score.times_error(RARE):
        return False
    means = permuted(split)[False][STATISTICS[0]]
    chance = Estimate(float(means.mean()), float(means.std(ddof=1)), len(means))
    return chance.surely_above(score.value, RARE)


def _word(
    references: References, of: Mapping[str, BothWays], test: Retrained | None
) -> Word | WordAlone:
    if test is None:
        return CANNOT
    if references.original is None:
        return word_alone({s: both for s, both in of.items() if len(references.splits[s])}, test)
    return word(of, references.nothing, test)


def _mean(points: np.ndarray) -> float:
    return float(points.mean()) if points.size else math.nan


def _coarse(points: int) -> int:
    """A number of points to two digits: limits hardly differ, and are simulated once."""
    return round(points, 2 - len(str(points)))


def _excess(of: Mapping[str, BothWays], cut: Mapping[str, float]) -> dict[str, Excess]:
    found = {}
    for split, both in of.items():
        one, back = both.forward.estimate, both.reverse.estimate
        tame = cut.get(split, math.nan)
        found[split] = Excess(one.value, one.se, one.models, one.skew, reverse=back, cut=tame)
    return found


def _errors(
    scores: tuple[Summary, Summary], errors: tuple[Errors, Errors], models: int
) -> dict[str, Estimate]:
    """Of KLOM, then of its reverse."""
    return {
        prefix + name: with_error(getattr(summary, name), getattr(error, name), models)
        for prefix, summary, error in zip(("", "reverse_"), scores, errors, strict=True)
        for name in ("mean", "p95")
    }


def _quantiles(points: np.ndarray) -> dict[str, float]:
    found = np.percentile(points, QUANTILES) if points.size else [math.nan] * len(QUANTILES)
    return {f"p{q}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _worst(points: np.ndarray, rows: np.ndarray) -> tuple[tuple[int, float], ...]:
    order = np.argsort(-points[rows], kind="stable")[:WORST]
    return tuple((int(rows[i]), float(points[rows[i]])) for i in order)


def _histogram(
    point: int, oracle: np.ndarray, original: np.ndarray | None, unlearned: np.ndarray
) -> Histogram:
    sides = [oracle[:, point], unlearned[:, point]]
    if original is not None:
        sides.append(original[:, point])
    edges = np.histogram_bin_edges(np.concatenate(sides).astype(np.float64), BINS)
    counts = [tuple(np.histogram(side, edges)[0].tolist()) for side in sides]
    return Histogram(
        point,
        tuple(float(f"{edge:.6g}") for edge in edges),
        counts[0],
        counts[2] if original is not None else None,
        counts[1],
    )
