"""One cell: (task, method, forget set) -> record.

    originals [N] --method(F, R)--> unlearned [N] --margins--+
    oracles [M] ---------------------------------- margins --+--> scores --> record

Models are found in the store or trained into it; everything after the margins works on margins.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from klom_bench.cell.cell import Cell
from klom_bench.cell.loading import Models, load
from klom_bench.cell.record import Record
from klom_bench.cell.refusals import (
    look_at_published,
    marks,
    refuse_non_finite,
    refuse_unchanged,
    touched,
)
from klom_bench.cell.unlearning import Unlearning, epochs_to_score
from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError
from klom_bench.metrics.floor import floor
from klom_bench.metrics.klom import klom, klom_and_reverse
from klom_bench.metrics.margins import margins
from klom_bench.metrics.summary import Summary, summarise
from klom_bench.progress import Announce, silent
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import packs
from klom_bench.tasks.warm_up import import_compiler, warm_up

Timed = Callable[[Callable[[], None]], float]
"""Runs the unlearning once and returns the seconds it took."""


def stopwatch(work: Callable[[], None]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(
    cell: Cell, store: Store, timed: Timed = stopwatch, announce: Announce = silent
) -> Record:
    """Unlearn F from N originals, and score them against the oracles.

    Raises KlomError for everything that would make the scores meaningless: ensembles that are
    missing or do not fit, a method that yields nothing, changes nothing or diverges, originals
    that were touched.
    """
    if cell.unfit:
        raise KlomError(cell.unfit)
    models = load(cell, store, announce)
    if models.originals.held.published or models.oracles.published:
        look_at_published(cell, models)
    runs, seconds = unlearn(cell, models, timed, announce)
    return score(cell, models, runs, seconds)


def unlearn(
    cell: Cell, models: Models, timed: Timed, announce: Announce
) -> tuple[list[Unlearning], float]:
    """All packs, side by side, and the seconds that it took."""
    before = marks(cell, models)
    runs = [
        Unlearning(cell, models.originals.states, pack, models.needs(pack))
        for pack in packs(range(cell.members), cell.task.pack)
    ]
    warm_up(cell.task, len(runs[0].pack), cell.device)  # which is not the method's doing
    if not cell.method.built_in:
        import_compiler()
    with announce(f"{cell.method.name} on {cell.forget_set.name}", cell.members) as tick:

        def one(run: Unlearning, check: Check) -> None:
            # Only the method knows how many epochs there will be; most call the number so.
            given = cell.hyperparameters.get("epochs")
            epochs = given if isinstance(given, int) and given > 0 else 1
            for _ in run.epochs():
                check()
                if run.epoch < epochs:
                    tick(len(run.pack) / epochs)
            tick(len(run.pack) * (1 - min(run.epoch - 1, epochs - 1) / epochs))

        def once() -> None:
            if any(run.begun for run in runs):
                raise KlomError(
                    f"{cell.method.name} was to unlearn the same members a second time, which "
                    "would make other scores: the fixture `benchmark` (of another plugin, or your "
                    "own) must call what it is given once. Use that of pytest-benchmark, as it is"
                )
            each(runs, one, cell.device)

        try:
            seconds = timed(once)
        finally:
            problem = touched(cell, models, before)
    if not all(run.begun for run in runs):
        raise KlomError(
            "nothing was unlearned: the fixture `benchmark` never called what it was given. Use "
            "that of pytest-benchmark, as it is"
        )
    if problem:
        raise KlomError(problem)
    return runs, seconds


def score(cell: Cell, models: Models, runs: Sequence[Unlearning], seconds: float) -> Record:
    """The record of the last epoch, with those of earlier ones that are asked for."""
    oracle, original, splits = models.margins, models.originals, cell.splits
    y, retrain = cell.task.data.y(), models.oracles.seconds
    afresh = len(cell.forget_set.retain) * cell.task.recipe.epochs
    ended = float(np.mean([run.seconds / len(run.pack) for run in runs]))
    away = np.full_like(original.margins, 2 * np.abs(oracle).max() + 1)

    def summaries(points: np.ndarray) -> dict[str, Summary]:
        return {split: summarise(points[rows]) for split, rows in splits.items()}

    def accuracy(right: np.ndarray) -> dict[str, float]:
        return {split: float(right[:, rows].mean()) for split, rows in splits.items()}

    record = partial(
        Record,
        cell=cell,
        do_nothing=summaries(klom(oracle, original.margins, cell.estimator)),
        nowhere=summaries(klom(oracle, away, cell.estimator)),
        floor=dict.fromkeys(splits, floor(cell.estimator, cell.oracles, cell.members)),
        accuracy_do_nothing=accuracy(original.right),
        accuracy_oracle=models.oracles.accuracy(cell.oracles),
    )

    def after(epoch: int) -> Record:
        outputs = torch.cat(each(runs, lambda run, _: run.logits(epoch).cpu(), cell.device))
        unlearned = margins(outputs, y).numpy()
        refuse_non_finite(cell, unlearned)
        if epoch == runs[0].epoch:
            refuse_unchanged(cell, runs, unlearned, original.margins)
        forward, backward = klom_and_reverse(oracle, unlearned, cell.estimator)
        moments = [run.moments[epoch] for run in runs]
        took = [moment.seconds / len(run.pack) for run, moment in zip(runs, moments, strict=True)]
        per_member = float(np.mean(took))
        return record(
            points=forward,
            scores=summaries(forward),
            reverse=summaries(backward),
            accuracy=accuracy(outputs.argmax(-1).eq(y).numpy()),
            epoch=epoch,
            seconds={
                "unlearn": seconds * per_member / ended,
                "per_member": per_member,
                "retrain": retrain,
            },
            relative_cost={
                "time": per_member / retrain,
                "examples": moments[0].examples / afresh,
            },
        )

    *earlier, last = (after(epoch) for epoch in epochs_to_score(cell, runs))
    return replace(last, earlier=tuple(earlier))
