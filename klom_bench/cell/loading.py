"""The models that a cell is measured with, trained or found in the store, and what they say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from klom_bench.cell.cell import Cell
from klom_bench.ensemble.ensemble import Ensemble, State, evaluating
from klom_bench.ensemble.threads import Check, each
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.progress import Announce
from klom_bench.store.held import Held
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import packs
from klom_bench.tasks.task import Task

Needs = Callable[[Sequence[int]], Mapping[str, Any]]
"""What a method asks for by name, for the members of a pack."""


@dataclass(frozen=True)
class Originals:
    """State dicts, margins [N, points], right answers bool [N, points]."""

    held: Held
    states: Sequence[State]
    margins: np.ndarray
    right: np.ndarray


@dataclass(frozen=True)
class Models:
    """What a cell is measured with; margins [oracles, points] are the oracles'."""

    originals: Originals
    oracles: Held
    margins: np.ndarray
    needs: Needs


def load(cell: Cell, store: Store, announce: Announce) -> Models:
    """Complete the ensembles of a cell, and read what is measured with them."""
    wanted = [(cell.original_id, cell.members), (cell.oracle_id, cell.oracles)]
    if "datamodels" in cell.method.needs:
        wanted.append((cell.half_id, cell.halves))
    originals, oracles, *halves = store.complete(wanted, cell.device, announce)
    return Models(
        originals_of(originals, cell.members, cell.device),
        oracles,
        oracles.margins(cell.oracles, cell.device, announce),
        _needs(cell, oracles, halves),
    )


@lru_cache(maxsize=1)
def originals_of(held: Held, members: int, device: torch.device) -> Originals:
    """Read once a process: the originals serve all cells of a run."""
    task, states, right = held.ensemble.task, held.states(members), held.answers(members)
    if right is None:
        z = logits_of(task, states, device)
        right = z.argmax(-1).eq(task.data.y()).numpy()
    return Originals(held, states, held.margins(members, device), right)


def _needs(cell: Cell, oracles: Held, halves: Sequence[Held]) -> Needs:
    """The task, the oracles' outputs, datamodels: as far as the method names them."""
    given: dict[str, Callable[[Sequence[int]], Any]] = {"task": lambda _: cell.task}
    if "oracles" in cell.method.needs:
        z = _logits(oracles, cell.oracles, cell.device)
        given["oracles"] = lambda pack: oracles_for(pack, z, cell.task.data.y_train)
    if halves:
        z_k = _logits(halves[0], cell.halves, cell.device)
        masks = cell.half_id.masks(cell.halves)
        known = Datamodels(masks, z_k, cell.task.data_on(cell.device))
        given["datamodels"] = lambda _: known
    return lambda pack: {name: given[name](pack) for name in cell.method.needs}


@lru_cache(maxsize=2)
def _logits(held: Held, members: int, device: torch.device) -> torch.Tensor:
    """Logits of an ensemble on all points, computed from checkpoints; kept for the next cell."""
    return logits_of(held.ensemble.task, held.states(members), device)


def logits_of(task: Task, states: Sequence[State], device: torch.device) -> torch.Tensor:
    """Logits [members, points, classes] of models on all points of a task."""
    data = task.data_on(device)

    def of_pack(pack: list[int], _: Check) -> torch.Tensor:
        model = Ensemble(task.architecture, [states[i] for i in pack]).to(device)
        with evaluating(model):
            return data.logits(model, len(pack)).cpu()

    return torch.cat(each(packs(range(len(states)), task.pack), of_pack, device))
