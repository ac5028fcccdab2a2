"""One cell: (task, method, forget set) -> record.

    originals [N] --method(F, R)--> unlearned [N] --margins--+
    oracles [M] ---------------------------------- margins --+--> scores --> record

Models are found in the store or trained into it; everything after the margins works on margins.
With several looks all this is done for a few models, then for more, until each gate is settled.
"""

import math
import time
from dataclasses import replace

import numpy as np

from klom_bench.cell.after import After
from klom_bench.cell.cell import Cell
from klom_bench.cell.clock import Clock
from klom_bench.cell.early import may_settle
from klom_bench.cell.limits import Limits
from klom_bench.cell.loading import Models, load
from klom_bench.cell.record import Looks, Record, Stopped
from klom_bench.cell.record_json import plain_value
from klom_bench.cell.refusals import (
    look_at_brought,
    refuse_copies,
    refuse_non_finite,
    refuse_unchanged,
    warn_of_low_scores,
)
from klom_bench.cell.rounds import Timed, Unlearned, at_once, once
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
    until: float = math.inf,
) -> Record:
    """Unlearn F from N originals, score them against the oracles, hold the scores against limits.

    until: when no further look is begun, by `time.monotonic`. Raises KlomError for everything that
    would make the scores meaningless: ensembles that are missing or do not fit, a method that
    yields nothing, changes nothing or diverges, originals that were touched.
    """
    if cell.unfit:
        raise KlomError(cell.unfit)
    unlearned, records, rounds = Unlearned(cell, store.engine), list[Record](), cell.rounds
    limits.refuse_too_few(min(rounds[0].members, rounds[0].oracles))
    looks = tuple(asked.members for asked in rounds)

    def scored_with(models: Models, asked: Cell) -> Record:
        return score(asked, models, unlearned, limits.at(looks, asked is not rounds[-1]))

    def worth_scoring(models: Models, asked: Cell) -> bool:
        then = unlearned.epochs[max(unlearned.epochs)].first(asked.members)
        refuse_meaningless(asked, models.margins, then)
        held = limits.at(looks, early=True)
        return may_settle(models.margins, then.margins, cell.splits, cell.estimator, held)

    def complete(asked: Cell) -> Models:
        models = load(asked, store, announce, cell)
        if not (models.originals.held.trained_here and models.oracles.trained_here):
            look_at_brought(asked, models)
        return models

    first = complete(rounds[0])

    def look_by_look(clock: Clock) -> tuple[Models, Cell]:
        for asked in rounds:
            models = first if asked is rounds[0] else complete(asked)
            unlearned.more(models, clock, announce)
            spent = time.monotonic() >= until
            if asked is rounds[-1]:
                break
            if spent or worth_scoring(models, asked):
                records.append(scored_with(models, asked))
                if spent or is_settled(records[-1]):
                    break
        return models, asked

    models, seen_last = once(timed, cell.method.name, look_by_look)
    if seen_last is rounds[-1]:  # scored when nobody's timer runs
        records.append(scored_with(models, rounds[-1]))
    return seen(looks, records[-1])


def is_settled(record: Record) -> bool:
    """Whether no gate is open any more."""
    return all(gate.verdict != "inconclusive" for gate in record.gates)


def seen(looks: tuple[int, ...], last: Record) -> Record:
    """The record of the last look that was made; where there were to be several, it says so."""
    if len(looks) == 1:
        return last
    stopped: Stopped = "settled" if is_settled(last) else "maximum"
    if not is_settled(last) and last.members < looks[-1]:
        stopped = "budget"
    return replace(last, looks=Looks(looks, looks.index(last.members) + 1, stopped))


def refuse_meaningless(cell: Cell, oracle: np.ndarray, then: After) -> None:
    """KlomError where unlearned models diverged, are the originals still, or copies of oracles."""
    refuse_non_finite(cell, then.margins)
    refuse_unchanged(cell, np.flatnonzero(then.unchanged).tolist())
    refuse_copies(cell, oracle, then.margins)


def score(cell: Cell, models: Models, unlearned: Unlearned, limits: Limits) -> Record:
    """The record of the last epoch, with those of earlier ones that are asked for."""
    found = {epoch: after.first(cell.members) for epoch, after in unlearned.epochs.items()}
    seconds = unlearned.wall() * cell.members / unlearned.done  # more may have come along
    oracle, original, splits = models.margins, models.originals.first(cell.members), cell.splits
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
        "device": str(unlearned.device),
        "accuracy_do_nothing": accuracy(original.right),
        "accuracy_oracle": models.oracles.accuracy(cell.oracles),
    }

    def after(epoch: int) -> Record:
        then = found[epoch]
        refuse_meaningless(cell, oracle, then)
        per_member = float(then.seconds.mean())
        record = scored(
            cell.asked,
            references,
            then.margins,
            limits if epoch == last else None,
            cell.method.sees_oracles,
            **fixed,
            accuracy=accuracy(then.right),
            epoch=epoch,
            seconds={
                "unlearn": seconds * per_member / float(found[last].seconds.mean()),
                "per_member": per_member,
                "retrain": retrain,
            },
            relative_cost={
                "time": per_member / retrain,
                "examples": int(then.examples[0]) / afresh,
            },
        )
        if epoch == last:
            warn_of_low_scores(cell, record.below_floor)
        return record

    *earlier, whole = (after(epoch) for epoch in sorted(found))
    return replace(whole, earlier=tuple(map(Record.of_an_earlier_epoch, earlier)))
