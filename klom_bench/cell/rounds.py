"""All members of a cell, unlearned as many packs at a time as there are threads.

    states of some packs --method(F, R), timed--> models --> margins, right answers

Then the models go, and the next packs are read: what stays of a member is a row of numbers.
"""

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.cell.clock import Clock
from klom_bench.cell.loading import Models, are_large
from klom_bench.cell.refusals import are_unchanged, marks, touched
from klom_bench.cell.unlearning import Unlearning, epochs_to_score
from klom_bench.ensemble.threads import Check, each, thread_count
from klom_bench.errors import KlomError
from klom_bench.files.scratch import scratch
from klom_bench.progress import Announce, Tick
from klom_bench.tasks.ensemble_id import packs
from klom_bench.tasks.pack_size import pack_on
from klom_bench.tasks.warm_up import import_compiler, warm_up

T = TypeVar("T")
Timed = Callable[[Callable[[Clock], None]], object]
"""Has the unlearning done once, with a clock that runs while members are unlearned."""


def at_once(unlearning: Callable[[Clock], None]) -> None:
    """Where nobody else times it."""
    unlearning(Clock())


def once(timed: Timed, method: str, unlearning: Callable[[Clock], T]) -> T:
    """Have it done, and just once: a second time would unlearn unlearned models."""
    begun, found = False, list[T]()

    def guarded(clock: Clock) -> None:
        nonlocal begun
        if begun:
            raise KlomError(
                f"{method} was to unlearn the same members a second time, which would make other "
                "scores: the fixture `benchmark` (of another plugin, or your own) must call what "
                "it is given once. Use that of pytest-benchmark, as it is"
            )
        begun = True
        found.append(unlearning(clock))

    timed(guarded)
    if not found:
        raise KlomError(
            "nothing was unlearned: the fixture `benchmark` never called what it was given. Use "
            "that of pytest-benchmark, as it is"
        )
    return found[0]


@dataclass(frozen=True)
class After:
    """What members were after an epoch, a row a member.

    margins: float32 [N, points]. right: right answers, bool [N, points], None where there are no
    such. seconds: float64 [N].
    examples: int64 [N], those seen. unchanged: bool [N], the original still; told of the last
    epoch.
    """

    margins: np.ndarray
    right: np.ndarray | None
    seconds: np.ndarray
    examples: np.ndarray
    unchanged: np.ndarray

    def first(self, members: int) -> "After":
        """Of so many members."""
        right = None if self.right is None else self.right[:members]
        others = (self.margins, self.seconds, self.examples, self.unchanged)
        margins, seconds, examples, unchanged = (x[:members] for x in others)
        return After(margins, right, seconds, examples, unchanged)


@dataclass
class Unlearned:
    """What members of a cell were after each epoch that is to be scored, as far as they are done.

    done: members. wall: seconds of all of them.
    """

    cell: Cell
    epochs: dict[int, After] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    done: int = 0
    wall: Clock = field(default_factory=Clock)

    def more(self, models: Models, clock: Clock, announce: Announce) -> None:
        """Unlearn the originals that are not done yet."""
        cell, originals, members = self.cell, models.originals, len(models.originals.margins)
        if members == self.done:
            return
        before, at_a_time = marks(cell, models, members), thread_count(cell.device)
        every = packs(range(self.done, members), pack_on(cell.task, cell.device))
        warm_up(cell.task, len(every[0]), cell.device)  # which is not the method's doing
        if not cell.method.built_in:
            import_compiler()
        label = f"{cell.method.name} on {cell.forget_set.name}"
        with announce(label, members - self.done) as tick:
            run_through = partial(_run_through, tick)
            for start in range(0, len(every), at_a_time):
                runs = [
                    Unlearning(cell, originals.states(pack), pack, models.needs(pack))
                    for pack in every[start : start + at_a_time]
                ]
                try:
                    with self.wall.running(), clock.running():
                        each(runs, run_through, cell.device)
                finally:
                    problem = touched(cell, models, before)
                if problem:
                    raise KlomError(problem)
                self.ended.update(run.epoch for run in runs)
                for epoch in epochs_to_score(cell, self.ended):
                    self.epochs.setdefault(epoch, _nothing_yet(cell))
                each(runs, partial(_look, self.epochs, originals.margins), cell.device)
                runs.clear()
                if are_large(cell.task, cell.members):
                    gc.collect()  # a scheduler of torch makes a cycle of its optimizer
        self.done = members


def _run_through(tick: Tick, run: Unlearning, check: Check) -> None:
    # Only the method knows how many epochs there will be; most call the number so.
    given = run.cell.hyperparameters.get("epochs")
    epochs = given if isinstance(given, int) and given > 0 else 1
    for _ in run.epochs():
        check()
        if run.epoch < epochs:
            tick(len(run.pack) / epochs)
    tick(len(run.pack) * (1 - min(run.epoch - 1, epochs - 1) / epochs))


def _nothing_yet(cell: Cell) -> After:
    n, points = cell.members, len(cell.task.data.y())
    return After(
        margins=scratch((n, points)),
        right=scratch((n, points), bool) if cell.task.outputs.right else None,
        seconds=np.zeros(n),
        examples=np.zeros(n, int),
        unchanged=np.zeros(n, bool),
    )


def _look(found: Mapping[int, After], originals: np.ndarray, run: Unlearning, check: Check) -> None:
    """Fill in what a pack was after each epoch; originals are margins [N, points]."""
    pack, y = run.pack, run.cell.task.data.y()
    run.model.zero_grad()  # gradients are as large as the model
    for epoch in sorted(found):
        check()
        after, moment, z = found[epoch], run.moments[epoch], run.logits(epoch).cpu()
        after.margins[pack] = run.cell.task.outputs.margins(z, y).numpy()
        rights = run.cell.task.outputs.rights(z, y)
        if after.right is not None and rights is not None:
            after.right[pack] = rights.numpy()
        after.seconds[pack] = moment.seconds / len(pack)
        after.examples[pack] = moment.examples
    if not run.cell.method.traits.changes_nothing:
        after.unchanged[pack] = are_unchanged(run, after.margins[pack], originals[pack])
