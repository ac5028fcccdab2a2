"""Files of members: weights, then margins of the weights that lie there, then a file that says so.

Each is written by whoever comes first, and everybody goes on with what lies there then: on a GPU
two trainings of one member differ in bits, and one's weights may not meet the other's margins.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from klom_bench.errors import KlomError
from klom_bench.files import atomic
from klom_bench.files.atomic import state_bytes
from klom_bench.store import members
from klom_bench.store.members import Member
from klom_bench.store.training import Evaluated, Trained
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId
from klom_bench.tasks.spots import ROUGH, off_by


@dataclass(frozen=True)
class Weights:
    """A member's state dict as it lies in the store; seconds: None where training did not say."""

    state: dict[str, Any]
    checksum: str
    seconds: float | None


def weights_there(folder: Path, ensemble: EnsembleId, member: int) -> Weights | None:
    """What a killed run, or another one, has left of a member that is not whole yet."""
    path = folder / ensemble.checkpoint_file(member)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return _weights(path, content, None)


def write_weights(folder: Path, ensemble: EnsembleId, trained: Trained) -> Weights:
    """Keep the weights of a member unless there are some; returns those that lie there then."""
    path, content = folder / ensemble.checkpoint_file(trained.member), state_bytes(trained.state)
    lies = atomic.write_first(path, content)
    if lies is not content:
        return _weights(path, lies, trained.seconds)
    return Weights(trained.state, atomic.sha256(content), trained.seconds)


def write_member(
    folder: Path, ensemble: EnsembleId, evaluated: Evaluated, weights: Weights, made_with: str
) -> None:
    """Keep the margins of weights that lie there; the member is whole from now on."""
    i = evaluated.member
    sums = {ensemble.checkpoint_file(i): weights.checksum}
    for part, margins in zip(PARTS, (evaluated.train_margins, evaluated.val_margins), strict=True):
        name = ensemble.margins_file(i, part)
        content = atomic.array_bytes(margins)
        lies = atomic.write_first(folder / name, content)
        if lies != content:
            _refuse_others(folder / name, lies, margins)
        sums[name] = atomic.sha256(lies)
    size = evaluated.margin_size
    members.write(folder, i, Member(sums, evaluated.accuracy, size, weights.seconds, made_with))


def remove_weights(folder: Path, ensemble: EnsembleId, numbers: Sequence[int]) -> None:
    """Remove the weights of members that are not to be; those of whole members stay."""
    for i in set(numbers) - members.numbers_in(folder):
        (folder / ensemble.checkpoint_file(i)).unlink(missing_ok=True)


def _weights(path: Path, content: bytes, seconds: float | None) -> Weights:
    try:
        return Weights(atomic.state_from(content), atomic.sha256(content), seconds)
    except Exception as error:  # zip, pickle and torch have errors of their own
        raise KlomError(
            f"{path} was left by a run that was killed, and cannot be read "
            f"({type(error).__name__}): remove it, and the next run trains that member"
        ) from error


def _refuse_others(path: Path, content: bytes, margins: np.ndarray) -> None:
    """KlomError where a file is not what another machine would have written for the same member."""
    try:
        found = atomic.array_from(content)
        same = found.shape == margins.shape and off_by(found, margins) <= ROUGH
    except (ValueError, EOFError, OSError):
        same = False
    if not same:
        raise KlomError(
            f"{path} was left by a run that was killed, and is not the margins of the weights that "
            "lie there: remove it, and the next run computes them"
        )
