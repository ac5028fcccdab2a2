"""One cell: (task, method, forget set) -> record.

    originals [N] --method(F, R)--> unlearned [N] --margins--+
    oracles [M] ---------------------------------- margins --+--> scores --> record

Models are found in the store or trained into it; everything after the margins works on margins.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.cell.limits import Limits
from klom_bench.cell.loading import Models, load
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import plain_value
from klom_bench.cell.refusals import (
    look_at_brought,
    refuse_copies,
    refuse_non_finite,
    refuse_unchanged,
    warn_of_low_scores,
)
from klom_bench.cell.rounds import After, Timed, at_once, unlearn
from klom_bench.cell.scoring import References, scored
from klom_bench.errors import KlomError
from klom_bench.progress import Announce, silent
from klom_bench.store.store import Store

NO_LIMITS = Limits()


def measure(
    cell: Cell,
    store: Store,
    timed: Timed = at_once,
    announce: Announce = silent,
    limits: Limits = NO_LIMITS,
) -> Record:
    """Unlearn F from N originals, score them against the oracles, hold the scores against limits.

    Raises KlomError for everything that would make the scores meaningless: ensembles that are
    missing or do not fit, a method that yields nothing, changes nothing or diverges, originals
    that were touched.
    """
    if cell.unfit:
        raise KlomError(cell.unfit)
    limits.refuse_too_few(min(cell.members, cell.oracles))
    models = load(cell, store, announce)
    if not (models.originals.held.trained_here and models.oracles.trained_here):
        look_at_brought(cell, models)
    found, seconds = unlearn(cell, models, timed, announce)
    return score(cell, models, found, seconds, limits)


def score(
    cell: Cell, models: Models, found: Mapping[int, After], seconds: float, limits: Limits
) -> Record:
    """The record of the last epoch, with those of earlier ones that are asked for."""
    oracle, original, splits = models.margins, models.originals, cell.splits
    last, retrain = max(found), models.oracles.seconds
    afresh = models.oracles.examples or len(cell.forget_set.retain) * cell.task.training.epochs
    references = References(oracle, original.margins, splits, cell.estimator, cell.members)

    def accuracy(right: np.ndarray | None) -> dict[str, float]:
        if right is None:
            return dict.fromkeys(splits, float("nan"))
        return {split: float(right[:, rows].mean()) for split, rows in splits.items()}

    fixed = {
        "hyperparameters": {name: plain_value(v) for name, v in cell.hyperparameters.items()},
        "tuning": cell.tuning,
        "rests_on": cell.halves if "datamodels" in cell.method.needs else None,
        "device": str(cell.device),
        "accuracy_do_nothing": accuracy(original.right),
        "accuracy_oracle": models.oracles.accuracy(cell.oracles),
    }

    def after(epoch: int) -> Record:
        unlearned = found[epoch]
        refuse_non_finite(cell, unlearned.margins)
        if epoch == last:
            refuse_unchanged(cell, np.flatnonzero(unlearned.unchanged).tolist())
        refuse_copies(cell, oracle, unlearned.margins)
        per_member = float(unlearned.seconds.mean())
        record = scored(
            cell.asked,
            references,
            unlearned.margins,
            limits if epoch == last else None,
            cell.method.sees_oracles,
            **fixed,
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
        if epoch == last:
            warn_of_low_scores(cell, record.below_floor)
        return record

    *earlier, whole = (after(epoch) for epoch in sorted(found))
    return replace(whole, earlier=tuple(map(Record.of_an_earlier_epoch, earlier)))
