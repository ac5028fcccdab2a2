"""Whether an ensemble of ours is still what is asked for, and what is done where it is not."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from klom_bench.errors import KlomError
from klom_bench.store.layout import EnsembleId
from klom_bench.store.manifest import Stale, identity, load, save
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.spots import EXACT, ROUGH, at_spots, off_by

ASIDE = "stale"
"""Folder of a store for ensembles that were moved aside."""


def refuse_changed(held: OwnEnsemble, device: torch.device) -> None:
    """Stale where the stored margins of a member are not those that its weights give now.

    So another forward pass, other inputs or other labels are noticed, whatever nobody declared.
    """
    first = held.members[0]
    (state,), stored = held.states_of([first]), held.margins_of([first])[0]
    points, computed = at_spots(held.ensemble.task, state, device)
    exact = device.type == "cpu" and ", cpu " in held.manifest.members[first].made_with
    off = off_by(stored[points], computed)
    if off > (EXACT if exact else ROUGH):
        what = "the data or what the model computes" if held.manifest.is_dated else "the model"
        raise Stale(
            f"the ensemble in {held.folder} is another one: {what} changed since. The margins of "
            f"member {first}, computed anew from its weights, are off by {off:.0%} in the mean "
            f"from those that were stored"
        )


def why_stale(folder: Path, ensemble: EnsembleId, device: torch.device) -> Stale | None:
    """What is not as it is asked for in a folder of ours; None where all is, or nothing is there.

    What is left of a manifest of earlier versions is brought up to date.
    """
    try:
        manifest = load(folder, ensemble)
        if manifest is None:
            return None
        held = OwnEnsemble(folder, ensemble, manifest)
        if manifest.members:
            refuse_changed(held, device)
    except Stale as error:
        return error
    if manifest.is_dated:
        take_over(held)
    return None


def take_over(held: OwnEnsemble) -> None:
    """Give a manifest of earlier versions, found to be right, the hashes that new ones have."""
    if not os.access(held.folder, os.W_OK):
        return  # looked at again next time
    with lock(held.folder, "manifest"):
        now = load(held.folder, held.ensemble)
        if now is not None and now.is_dated:
            save(held.folder, replace(now, identity=identity(held.ensemble)))


def lock(folder: Path, name: str) -> FileLock:
    """The lock of this name of an ensemble's folder; it falls with the process that holds it."""
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".locks" / f"{name}.lock", thread_local=False)


def refuse_busy(folder: Path) -> None:
    """KlomError where another run is training into a folder."""
    for path in sorted((folder / ".locks").glob("*.lock")):
        try:
            with FileLock(path, timeout=0, thread_local=False):
                pass
        except Timeout as error:
            raise KlomError(
                f"another run is training into {folder}: wait until it has ended"
            ) from error


def move_aside(root: Path, ensemble: EnsembleId, device: torch.device) -> Path | None:
    """Move the folder of a stale ensemble; where to, None where another process has done it."""
    folder = root / ensemble.folder
    try:
        with lock(root / ASIDE, "moving"):
            if why_stale(folder, ensemble, device) is None:
                return None
            refuse_busy(folder)
            number = 1
            while (target := root / ASIDE / str(number) / ensemble.folder).exists():
                number += 1
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            return target
    except OSError as error:
        raise KlomError(f"{folder} cannot be moved aside ({error.strerror})") from error
