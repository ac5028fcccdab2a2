"""Whether a store is what it seems: every file read, and oracles that really lack their set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from klom_bench.errors import KlomError
from klom_bench.files import atomic
from klom_bench.metrics.copies import repeated
from klom_bench.metrics.sanity import Sanity
from klom_bench.progress import Announce, Tick, silent
from klom_bench.published.ensemble import PublishedEnsemble
from klom_bench.published.forget_sets import stored
from klom_bench.store.against import COPIES, held_against
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.stale import refuse_changed
from klom_bench.store.store import Store
from klom_bench.store.survey import MOVED, TRAINED, Holding, survey
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.spots import ROUGH, off_by
from klom_bench.tasks.task import Task


@dataclass
class Verified:
    """What was found out about one ensemble: problems make `klom verify` fail, notes do not."""

    holding: Holding
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sanity: Sanity | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.holding.as_json(),
            "problems": self.problems,
            "notes": self.notes,
            "sanity": self.sanity.as_json() if self.sanity else None,
        }


def verify(
    root: Path,
    tasks: Mapping[str, Task],
    device: torch.device,
    announce: Announce = silent,
    more: Mapping[str, Task] | None = None,
) -> list[Verified]:
    """Read everything, and hold oracles against the originals of the same seed.

    more: the tasks with forget sets that a store may hold beside their own.
    """
    there = (h for h in survey(root, tasks) if h.made != MOVED)
    found = [Verified(holding) for holding in there]
    known = {name: stored(task, root) for name, task in (more or tasks).items()}
    originals: dict[tuple[str, int], np.ndarray] = {}
    for verified in found:  # originals come first
        holding = verified.holding
        try:
            if holding.made.startswith(("damaged", "unreadable")):
                raise KlomError(holding.made)
            ensemble = _ensemble(holding, known)
            margins = _read(verified, ensemble, root, device, announce)
            if margins is None:
                continue
            if ensemble.is_half:
                continue
            if ensemble.forget_set is None:
                originals[holding.task, holding.seed] = margins
            elif (others := originals.get((holding.task, holding.seed))) is None:
                verified.notes.append("there are no originals to hold them against")
            else:
                _hold_against(verified, ensemble, others, margins)
        except KlomError as error:
            verified.problems.append(str(error))
    return found


def _read(
    verified: Verified, ensemble: EnsembleId, root: Path, device: torch.device, announce: Announce
) -> np.ndarray | None:
    """Every file of an ensemble; returns margins, or None where they are of no use."""
    holding, held = verified.holding, Store(root, "error").held(ensemble)
    with announce(f"reading {holding.folder}", len(held.members)) as tick:
        if isinstance(held, OwnEnsemble):
            _read_own(held, verified, root, tick)
            if held.members and not verified.problems:
                refuse_changed(held, device)
        elif isinstance(held, PublishedEnsemble):
            _read_published(held, verified, tick)
    if not holding.members or verified.problems:
        return None
    if isinstance(held, PublishedEnsemble):
        margins = held.margins_of(held.scored, device, announce)
        _compare_with_checkpoint(held, margins, verified, device)
    elif held.lacks(len(held.members)):
        verified.notes.append("members are missing in between: a run will train them")
        return None
    else:
        margins = held.margins(len(held.members), device)
    if twice := repeated(margins):
        verified.problems.append(f"members {twice[0]} and {twice[1]} are one and the same")
    return margins


def _hold_against(
    verified: Verified, ensemble: EnsembleId, originals: np.ndarray, oracles: np.ndarray
) -> None:
    """Whether oracles are what they should be, by the margins of the originals."""
    found = held_against(ensemble, originals, oracles)
    verified.sanity, problems, notes = found.sanity, found.problems, found.notes
    if verified.holding.made == TRAINED:
        known = [text for text in problems if text != COPIES]  # the manifest says what they are
        problems, notes = [text for text in problems if text == COPIES], known + notes
    verified.problems += problems
    verified.notes += notes


def _ensemble(holding: Holding, tasks: Mapping[str, Task]) -> EnsembleId:
    if holding.task not in tasks:
        raise KlomError(
            f"{holding.folder} belongs to {holding.task!r}, which is no task that is known here"
        )
    task = tasks[holding.task]
    if holding.forget_set is None:
        return EnsembleId(task, "subset" if holding.role == "subset" else "original", holding.seed)
    if holding.forget_set not in task.forget_sets:
        raise KlomError(
            f"the indices of {holding.forget_set} are not known: put them into "
            f"forget_set_indices/{task.folder}/{holding.forget_set}.npy"
        )
    return EnsembleId(task, "oracle", holding.seed, task.forget_set(holding.forget_set))


def _compare_with_checkpoint(
    held: PublishedEnsemble, margins: np.ndarray, verified: Verified, device: torch.device
) -> None:
    """One member's margins against those of its checkpoint: other models, data or scaling show."""
    if not held.members or held.members[0] not in held.family.members("checkpoint"):
        return
    found = margins[held.scored.index(held.members[0])]
    try:
        points, expected = held.spot_check(held.members[0], device)
    except KlomError as error:
        verified.notes.append(f"margins were not compared with a checkpoint: {error}")
        return
    off = off_by(found[points], expected)
    if off > ROUGH:
        verified.problems.append(
            f"the margins of member {held.members[0]} are not those of its checkpoint (off by "
            f"{off:.0%} in the mean): files of other models, other data, or another normalisation"
        )


def _read_own(held: OwnEnsemble, verified: Verified, root: Path, tick: Tick) -> None:
    """Every file of every member, by its checksum; KlomError where it is that of another folder."""
    if held.folder != root / verified.holding.folder:
        raise KlomError(
            f"{verified.holding.folder} says that it is "
            f"{held.folder.relative_to(root).as_posix()}: it was copied or moved, and is not used"
        )
    for member in held.manifest.members.values():
        for name, sha256 in member.files.items():
            try:
                atomic.read(held.folder / name, sha256)
            except KlomError as error:
                verified.problems.append(str(error))
        tick(1)


def _read_published(held: PublishedEnsemble, verified: Verified, tick: Tick) -> None:
    """Every checkpoint; margins are read later, all at once."""
    if not held.scored:
        verified.problems.append(f"cannot be used: {held.complaint(1)}")
    elif not held.members:
        verified.notes.append(f"for `klom score` only: {held.complaint(1)}")
    elif len(held.members) < len(held.scored):
        verified.problems.append(held.complaint(len(held.scored)))
    if held.gaps:
        verified.problems.append(f"missing in the middle: {held.gaps}")
    for member in sorted(held.family.members("checkpoint")):
        try:
            held.state(member)
        except KlomError as error:
            verified.problems.append(str(error))
        tick(1)
