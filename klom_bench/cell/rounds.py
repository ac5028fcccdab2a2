"""All members of a cell, unlearned as many packs at a time as there are threads.

    states of some packs --method(F, R), timed--> models --> margins, right answers

Then the models go, and the next packs are read: what stays of a member is a row of numbers.
"""

import gc
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch

from klom_bench.cell.after import After, looked_at
from klom_bench.cell.cell import Cell
from klom_bench.cell.clock import Clock
from klom_bench.cell.loading import Models, Originals, are_large
from klom_bench.cell.refusals import marks, touched
from klom_bench.cell.sending import sent
from klom_bench.cell.unlearning import Unlearning, epochs_to_score
from klom_bench.engine import HERE, Engine
from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError
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


@dataclass
class Unlearned:
    """What members of a cell were after each epoch that is to be scored, as far as they are done.

    engine: what unlearns them. done: members. wall: seconds of all of them.
    """

    cell: Cell
    engine: Engine = HERE
    epochs: dict[int, After] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    done: int = 0
    wall: Clock = field(default_factory=Clock)

    @property
    def device(self) -> torch.device:
        """Where they are unlearned."""
        return self.engine.device(self.cell.device)

    def more(self, models: Models, clock: Clock, announce: Announce) -> None:
        """Unlearn the originals that are not done yet."""
        cell, members = self.cell, len(models.originals.margins)
        if members == self.done:
            return
        every = packs(range(self.done, members), pack_on(cell.task, self.device))
        label = f"{cell.method.name} on {cell.forget_set.name}"
        with announce(label, members - self.done) as tick:
            if self.engine.here:
                self._here(every, models, clock, tick)
            else:
                self._there(every, models, clock, tick)
        self.done = members

    def _here(self, every: Sequence[list[int]], models: Models, clock: Clock, tick: Tick) -> None:
        cell, originals = self.cell, models.originals
        before, at_a_time = marks(cell, models), self.engine.slots(cell.device)
        warm_up(cell.task, len(every[0]), cell.device)  # which is not the method's doing
        if not cell.method.built_in:
            import_compiler()
        for start in range(0, len(every), at_a_time):
            runs = [
                Unlearning(cell, originals.states(pack), pack, models.needs(pack))
                for pack in every[start : start + at_a_time]
            ]
            try:
                with self.wall.running(), clock.running():
                    each(runs, partial(_run_through, tick), cell.device)
            finally:
                problem = touched(cell, models, before)
            if problem:
                raise KlomError(problem)
            for ended in {run.epoch for run in runs}:
                self._begin(ended)
            each(runs, self._look(originals), cell.device)
            runs.clear()
            if are_large(cell.task, cell.members):
                gc.collect()  # a scheduler of torch makes a cycle of its optimizer

    def _there(self, every: Sequence[list[int]], models: Models, clock: Clock, tick: Tick) -> None:
        """The clock runs until all are back. Seconds of unlearning are the workers', shared among
        those that run at a time: what starts processes and travels is not the method's doing."""
        cell = self.cell
        before = marks(cell, models)
        work, read = sent(replace(cell, device=self.device), models)
        mapped = self.engine.map(work, every, self.device, read)
        at_a_time = min(self.engine.slots(self.device), len(every))
        with clock.running(), closing(mapped) as found:
            for pack, (epoch, seen) in found:
                self._begin(epoch)
                self.wall.seconds += float(seen[-1][1].seconds.sum()) / at_a_time
                for at, after in seen:
                    self.epochs[at].put(pack, after)
                tick(len(pack))
        if problem := touched(cell, models, before):
            raise KlomError(problem)

    def _begin(self, ended: int) -> None:
        """Make room for the epochs that are scored, where packs were done after this one."""
        self.ended.add(ended)
        for epoch in epochs_to_score(self.cell, self.ended):
            self.epochs.setdefault(epoch, After.of_nobody_yet(self.cell))

    def _look(self, originals: Originals) -> Callable[[Unlearning, Check], None]:
        def look(run: Unlearning, check: Check) -> None:
            for epoch, after in looked_at(run, sorted(self.epochs), originals.margins[run.pack]):
                check()
                self.epochs[epoch].put(run.pack, after)

        return look


def _run_through(tick: Tick, run: Unlearning, check: Check) -> None:
    # Only the method knows how many epochs there will be; most call the number so.
    given = run.cell.hyperparameters.get("epochs")
    epochs = given if isinstance(given, int) and given > 0 else 1
    for _ in run.epochs():
        check()
        if run.epoch < epochs:
            tick(len(run.pack) / epochs)
    tick(len(run.pack) * (1 - min(run.epoch - 1, epochs - 1) / epochs))
