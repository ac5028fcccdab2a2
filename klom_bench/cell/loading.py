"""The models that a cell is measured with, trained or found in the store, and what they say."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch

from klom_bench.cell.cell import Cell
from klom_bench.engine import HERE, Engine
from klom_bench.ensemble.ensemble import State, evaluating
from klom_bench.files.scratch import LARGE, scratch
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.progress import Announce
from klom_bench.store.held import Held
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import packs
from klom_bench.tasks.pack_size import pack_on
from klom_bench.tasks.task import Task
from klom_bench.tasks.travelling import Once, new_name

Needs = Callable[[Sequence[int]], Mapping[str, Any]]
"""What a method asks for by name, for the members of a pack."""
Halves = Once[tuple[np.ndarray, torch.Tensor]]
"""Masks and logits of models on random halves, of which datamodels are made."""
States = Callable[[Sequence[int]], Sequence[State]]
"""Reads the state dicts of members with these numbers."""


@dataclass(frozen=True)
class Originals:
    """What reads their state dicts, margins [N, points], right answers bool [N, points].

    right: None where nothing is right or wrong.
    """

    held: Held
    states: States
    margins: np.ndarray
    right: np.ndarray | None

    def first(self, members: int) -> "Originals":
        """So many of them."""
        right = None if self.right is None else self.right[:members]
        return replace(self, margins=self.margins[:members], right=right)


@dataclass(frozen=True)
class Models:
    """What a cell is measured with, originals perhaps more than its members; margins [oracles,
    points] are the oracles'.

    halves: where the method asks for datamodels.
    """

    originals: Originals
    oracles: Held
    margins: np.ndarray
    needs: Needs
    halves: Halves | None = None


def load(cell: Cell, store: Store, announce: Announce, whole: Cell | None = None) -> Models:
    """Complete the ensembles of a cell, and read what is measured with them.

    whole: the cell with all models that may be wanted later. Then as many more come along as take
    no longer: packs are whole, and as many as are computed at a time.
    """
    engine = store.engine
    counts, device = [cell.members, cell.oracles], engine.device(cell.device)
    if whole and store.missing == "train" and cell.task.trains:
        step, most = (
            pack_on(cell.task, device) * engine.slots(device),
            (whole.members, whole.oracles),
        )
        counts = [min(-(-n // step) * step, m) for n, m in zip(counts, most, strict=True)]
    wanted = list(zip((cell.original_id, cell.oracle_id), counts, strict=True))
    if "datamodels" in cell.method.needs:
        wanted.append((cell.half_id, cell.halves))
    originals, oracles, *others = store.complete(wanted, cell.device, announce)
    halves = _halves(others[0], cell.halves, cell.device, engine) if others else None
    return Models(
        originals_of(originals, counts[0], cell.device, engine),
        oracles,
        oracles.margins(cell.oracles, cell.device, announce, engine),
        _needs(cell, oracles, halves, engine),
        halves,
    )


@lru_cache(maxsize=5)  # as many as there are looks, usually
def originals_of(
    held: Held, members: int, device: torch.device, engine: Engine = HERE
) -> Originals:
    """Read once a process, but for states that are large: they serve all cells of a run."""
    states, right = states_from(held, members), held.answers(members)
    task = held.ensemble.task
    if right is None and task.outputs.right is not None:
        y = task.data.y()
        found = right = scratch((members, len(y)), bool)

        def keep(pack: list[int], z: torch.Tensor) -> None:
            rights = task.outputs.rights(z, y)
            if rights is not None:
                found[pack] = rights.numpy()

        evaluate(task, states, members, device, keep, engine)
    return Originals(held, states, held.margins(members, device, engine=engine), right)


def states_from(held: Held, members: int) -> States:
    """Reads all members at once where they are small together, else anew whoever is asked for."""
    if are_large(held.ensemble.task, members):
        return held.states_of
    return already_read(held.states_of(range(members)))


def are_large(task: Task, members: int) -> bool:
    """Whether so many models are too large to be held together."""
    values = sum(map(math.prod, task.shapes.values()))
    return members * values * torch.get_default_dtype().itemsize >= LARGE


def already_read(states: Sequence[State]) -> States:
    """The same of states that are here."""
    return lambda pack: [states[i] for i in pack]


def _needs(cell: Cell, oracles: Held, halves: Halves | None, engine: Engine) -> Needs:
    """The task, the oracles' outputs, datamodels: as far as the method names them."""
    given: dict[str, Callable[[Sequence[int]], Any]] = {"task": lambda _: cell.task}
    if "oracles" in cell.method.needs:
        z = _logits(oracles, cell.oracles, cell.device, engine)
        given["oracles"] = lambda pack: oracles_for(
            pack, z, cell.task.data.y_train, cell.task.outputs
        )
    if halves and engine.here:  # else they are made there
        known = Datamodels(*halves.value, cell.task.data_on(cell.device))
        given["datamodels"] = lambda _: known
    asked = [name for name in cell.method.needs if name in given]
    return lambda pack: {name: given[name](pack) for name in asked}


@lru_cache(maxsize=2)
def _halves(held: Held, members: int, device: torch.device, engine: Engine) -> Halves:
    """Kept for the next cell; their name for all."""
    z = _logits(held, members, device, engine)
    return Once((held.ensemble.masks(members), z), _name_of_halves(held, members))


@lru_cache(maxsize=16)
def _name_of_halves(held: Held, members: int) -> str:
    return new_name()


@lru_cache(maxsize=2)
def _logits(held: Held, members: int, device: torch.device, engine: Engine) -> torch.Tensor:
    """Logits of an ensemble on all points, computed from checkpoints; kept for the next cell."""
    return logits_of(held.ensemble.task, held.states_of, members, device, engine)


def logits_of(
    task: Task, states: States, members: int, device: torch.device, engine: Engine = HERE
) -> torch.Tensor:
    """Logits [members, points, classes] of models on all points of a task."""
    whole: list[torch.Tensor] = []

    def keep(pack: list[int], z: torch.Tensor) -> None:
        if not whole:  # only now is it known how many logits a model has
            dtype = torch.empty(0, dtype=z.dtype).numpy().dtype
            whole.append(torch.from_numpy(scratch((members, *z.shape[1:]), dtype)))
        whole[0][pack] = z

    evaluate(task, states, members, device, keep, engine)
    return whole[0]


def evaluate(
    task: Task,
    states: States,
    members: int,
    own: torch.device,
    keep: Callable[[list[int], torch.Tensor], None],
    engine: Engine,
) -> None:
    """keep(pack, logits [pack, points, classes]) for pack after pack, as they are done."""
    device = engine.device(own)
    every = packs(range(members), pack_on(task, device))
    with closing(engine.map(partial(_outputs, task, device), every, device, states)) as found:
        for pack, z in found:
            keep(pack, z)


def _outputs(
    task: Task, device: torch.device, pack: list[int], states: Sequence[State]
) -> torch.Tensor:
    model = task.ensemble(states).to(device)
    with evaluating(model):
        return task.data_on(device).outputs(model, len(pack)).cpu()
