"""One cell: (task, method, forget set) -> record.

    originals [N] --method(F, R)--> unlearned [N] --margins--+
    oracles [M] ---------------------------------- margins --+--> scores --> record

Models are found in the store or trained into it; everything after the margins works on margins.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.cell.evidence import evidence
from klom_bench.cell.loading import Models, load
from klom_bench.cell.record import Record
from klom_bench.cell.refusals import (
    look_at_brought,
    refuse_copies,
    refuse_non_finite,
    refuse_unchanged,
    warn_of_low_scores,
)
from klom_bench.cell.rounds import After, Timed, at_once, unlearn
from klom_bench.errors import KlomError
from klom_bench.metrics.excess import mean_excess
from klom_bench.metrics.floor import floor
from klom_bench.metrics.klom import klom, klom_and_reverse
from klom_bench.metrics.summary import Summary, summarise
from klom_bench.progress import Announce, silent
from klom_bench.store.store import Store


def measure(
    cell: Cell, store: Store, timed: Timed = at_once, announce: Announce = silent
) -> Record:
    """Unlearn F from N originals, and score them against the oracles.

    Raises KlomError for everything that would make the scores meaningless: ensembles that are
    missing or do not fit, a method that yields nothing, changes nothing or diverges, originals
    that were touched.
    """
    if cell.unfit:
        raise KlomError(cell.unfit)
    models = load(cell, store, announce)
    if not (models.originals.held.trained_here and models.oracles.trained_here):
        look_at_brought(cell, models)
    found, seconds = unlearn(cell, models, timed, announce)
    return score(cell, models, found, seconds)


def score(cell: Cell, models: Models, found: Mapping[int, After], seconds: float) -> Record:
    """The record of the last epoch, with those of earlier ones that are asked for."""
    oracle, original, splits = models.margins, models.originals, cell.splits
    last, retrain = max(found), models.oracles.seconds
    afresh = models.oracles.examples or len(cell.forget_set.retain) * cell.task.training.epochs
    beyond = original.margins.dtype.type(2 * max(oracle.max(), -oracle.min()) + 1)
    away = np.broadcast_to(beyond, original.margins.shape)

    def summaries(points: np.ndarray) -> dict[str, Summary]:
        return {split: summarise(points[rows]) for split, rows in splits.items()}

    def accuracy(right: np.ndarray | None) -> dict[str, float]:
        if right is None:
            return dict.fromkeys(splits, float("nan"))
        return {split: float(right[:, rows].mean()) for split, rows in splits.items()}

    sides = (cell.estimator, cell.oracles, cell.members)
    idle, idle_reverse = klom_and_reverse(oracle, original.margins, cell.estimator)
    nothing = mean_excess(oracle, original.margins, splits)
    record = partial(
        Record,
        cell=cell,
        do_nothing=summaries(idle),
        do_nothing_reverse=summaries(idle_reverse),
        nowhere=summaries(klom(oracle, away, cell.estimator)),
        floor=dict.fromkeys(splits, floor(*sides)),
        floor_reverse=dict.fromkeys(splits, floor(*sides, reverse=True)),
        accuracy_do_nothing=accuracy(original.right),
        accuracy_oracle=models.oracles.accuracy(cell.oracles),
    )

    def after(epoch: int) -> Record:
        unlearned = found[epoch]
        refuse_non_finite(cell, unlearned.margins)
        if epoch == last:
            refuse_unchanged(cell, np.flatnonzero(unlearned.unchanged).tolist())
        refuse_copies(cell, oracle, unlearned.margins)
        forward, backward = klom_and_reverse(oracle, unlearned.margins, cell.estimator)
        scores = summaries(forward)
        found_beside = evidence(cell, oracle, unlearned.margins, nothing, forward, scores)
        if epoch == last:
            warn_of_low_scores(cell, found_beside.below_floor)
        per_member = float(unlearned.seconds.mean())
        return record(
            points=forward,
            scores=scores,
            evidence=found_beside,
            reverse=summaries(backward),
            accuracy=accuracy(unlearned.right),
            epoch=epoch,
            seconds={
                "unlearn": seconds * per_member / float(found[last].seconds.mean()),
                "per_member": per_member,
                "retrain": retrain,
            },
            relative_cost={
                "time": per_member / retrain,
                "examples": int(unlearned.examples[0]) / afresh,
            },
        )

    *earlier, whole = (after(epoch) for epoch in sorted(found))
    return replace(whole, earlier=tuple(earlier))
