"""Packs that an engine unlearns in other processes: states go there, margins come back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from klom_bench.cell.after import After, looked_at
from klom_bench.cell.cell import Cell
from klom_bench.cell.loading import Halves, Models
from klom_bench.cell.refusals import changed_data, versions
from klom_bench.cell.unlearning import Unlearning, epochs_to_score
from klom_bench.ensemble.ensemble import State
from klom_bench.errors import KlomError
from klom_bench.methods.needs import Datamodels
from klom_bench.tasks.warm_up import import_compiler, warm_up


@dataclass(frozen=True)
class Given:
    """What goes with a pack: states, what the method asks for by name, margins [pack, points]."""

    states: Sequence[State]
    needs: Mapping[str, Any]
    margins: np.ndarray


@dataclass(frozen=True)
class UnlearnPack:
    """Unlearns a pack of a cell, in whatever process it is called; halves: as of `Models`."""

    cell: Cell
    halves: Halves | None

    def __call__(self, pack: list[int], given: Given) -> tuple[int, list[tuple[int, After]]]:
        """(its last epoch, what the pack was after each epoch that is scored)."""
        cell = self.cell
        warm_up(cell.task, len(pack), cell.device)
        if not cell.method.built_in:
            import_compiler()
        needs = {**given.needs, **({"datamodels": self.datamodels} if self.halves else {})}
        before = versions(cell)
        run = Unlearning(cell, given.states, pack, needs)
        try:
            for _ in run.epochs():
                pass
        finally:
            problem = changed_data(cell, before)
        if problem:
            raise KlomError(problem)
        epochs = epochs_to_score(cell, {run.epoch})
        return run.epoch, list(looked_at(run, epochs, given.margins))

    @cached_property
    def datamodels(self) -> Datamodels:
        """Made once a cell and process."""
        assert self.halves is not None
        return Datamodels(*self.halves.value, self.cell.task.data_on(self.cell.device))


def sent(cell: Cell, models: Models) -> tuple[UnlearnPack, Callable[[list[int]], Given]]:
    """What unlearns packs of a cell, and what is read for each of them."""

    def read(pack: list[int]) -> Given:
        originals = models.originals
        return Given(originals.states(pack), models.needs(pack), originals.margins[pack])

    return UnlearnPack(cell, models.halves), read
