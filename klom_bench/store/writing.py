"""Files of members: weights, then margins of the weights that lie there, then a file that says so.

Each is written by whoever comes first, and everybody goes on with what lies there then: on a GPU
two trainings of one member differ in bits, and one's weights may not meet the other's margins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from klom_bench.files import atomic
from klom_bench.store import members
from klom_bench.store.members import Member
from klom_bench.store.training import Evaluated, Trained
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId
from klom_bench.tasks.spots import ROUGH, off_by


@dataclass(frozen=True)
class Weights:
    """A member's state dict as it lies in the store.

    seconds, examples: None where training did not say.
    """

    state: dict[str, Any]
    checksum: str
    seconds: float | None
    examples: int | None = None


def weights_there(
    folder: Path, ensemble: EnsembleId, member: int, notes: list[str]
) -> Weights | None:
    """What a killed run, or another one, has left of a member that is not whole yet.

    Files are there whole or not at all, so that what cannot be read was lost, as when a machine
    loses its power: it is removed, and a note says so.
    """
    path = folder / ensemble.checkpoint_file(member)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        state = atomic.state_from(content)
        shapes = {name: list(value.shape) for name, value in state.items()}
    except MemoryError:  # which says nothing of the file
        raise
    except Exception:  # zip, pickle and torch have errors of their own
        shapes = {}
    if shapes == ensemble.task.shapes:
        return Weights(state, atomic.sha256(content), None)
    _let_go(path, notes)
    return None


def write_weights(
    folder: Path, ensemble: EnsembleId, trained: Trained, notes: list[str]
) -> Weights:
    """Keep the weights of a member unless there are some; returns those that lie there then."""
    path = folder / ensemble.checkpoint_file(trained.member)
    content = atomic.state_bytes(trained.state)
    while atomic.write_first(path, content) is not content:
        if there := weights_there(folder, ensemble, trained.member, notes):
            return replace(there, seconds=trained.seconds, examples=trained.examples)
    return Weights(trained.state, atomic.sha256(content), trained.seconds, trained.examples)


def write_member(
    folder: Path,
    ensemble: EnsembleId,
    evaluated: Evaluated,
    weights: Weights,
    made_with: str,
    notes: list[str],
    imported: Mapping[str, Any] | None = None,
) -> None:
    """Keep the margins of weights that lie there; the member is whole from now on."""
    i = evaluated.member
    sums = {ensemble.checkpoint_file(i): weights.checksum}
    for part, margins in zip(PARTS, (evaluated.train_margins, evaluated.val_margins), strict=True):
        path = folder / ensemble.margins_file(i, part)
        content = atomic.array_bytes(margins)
        lies = atomic.write_first(path, content)
        if lies != content and not _are_margins(lies, margins):
            _let_go(path, notes)
            lies = atomic.write_first(path, content)
        sums[path.name] = atomic.sha256(lies)
    accuracy = {
        split: value if math.isfinite(value) else None
        for split, value in evaluated.accuracy.items()
    }
    member = Member(
        sums,
        accuracy,
        evaluated.margin_size,
        weights.seconds,
        made_with,
        weights.examples,
        imported,
    )
    members.write(folder, i, member)


def remove_weights(folder: Path, ensemble: EnsembleId, numbers: Sequence[int]) -> None:
    """Remove the weights of members that are not to be; those of whole members stay."""
    for i in set(numbers) - members.numbers_in(folder):
        (folder / ensemble.checkpoint_file(i)).unlink(missing_ok=True)


def _let_go(path: Path, notes: list[str]) -> None:
    path.unlink(missing_ok=True)
    notes.append(f"{path} belonged to no member and was damaged: it was removed and made anew")


def _are_margins(content: bytes, margins: np.ndarray) -> bool:
    """Whether a file holds what another machine may have computed of the same weights."""
    try:
        found = atomic.array_from(content)
    except (ValueError, EOFError, OSError):
        return False
    return found.shape == margins.shape and off_by(found, margins) <= ROUGH
