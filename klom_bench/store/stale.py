"""Whether an ensemble of ours is still what is asked for, and what is done where it is not."""

import os
from pathlib import Path

import torch

from klom_bench.errors import KlomError, warn
from klom_bench.store.leases import CLAIMS, Claims, refuse_claimed
from klom_bench.store.manifest import Stale, load, rewrite, visible_names
from klom_bench.store.members import MEMBERS, numbers_in
from klom_bench.store.own import OwnEnsemble
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.spots import (
    EXACT,
    ROUGH,
    all_points,
    first_batches,
    margins_at,
    off_by,
    spots,
)

ASIDE = "stale"
"""Folder of a store for ensembles that were moved aside."""


def refuse_changed(held: OwnEnsemble, device: torch.device) -> None:
    """Stale where the stored margins of a member are not those that its weights give now.

    So another forward pass, other inputs or other labels are noticed, whatever nobody declared.
    Nothing can be told where no weights are left, or the model says something else each time.
    """
    task, manifest = held.ensemble.task, held.manifest
    weights = {i: held.checkpoint(i) for i in held.members}
    first = next((i for i, path in weights.items() if path.exists()), None)
    if first is None or not task.signature.repeats_in_eval:
        return
    (state,), stored = held.states_of([first]), held.margins_of([first])[0]
    if len(stored) != len(task.data.y()):
        raise Stale(
            f"the ensemble in {held.folder} is another one: it has margins of {len(stored)} points"
        )
    exact = device.type == "cpu" and ", cpu " in manifest.members[first].made_with
    # Outputs may depend on what is evaluated beside; without hashes every label counts.
    tried = (all_points,) if manifest.is_dated else (spots, first_batches)
    for rows in tried:
        points, computed = margins_at(task, state, rows(task), device)
        off = off_by(stored[points], computed, largest=exact)
        if off <= (EXACT if exact else ROUGH):
            return
    what = "the data or what the model computes" if manifest.is_dated else "the model"
    raise Stale(
        f"the ensemble in {held.folder} is another one: {what} changed since. The margins of "
        f"member {first}, computed anew from its weights, are off by {off:.0%} "
        f"({'at most' if exact else 'in the mean'}) from those that were stored"
    )


def why_stale(folder: Path, ensemble: EnsembleId, device: torch.device) -> Stale | None:
    """What is not as it is asked for in a folder of ours; None where all or nothing is there."""
    try:
        manifest = load(folder, ensemble)
        if manifest and manifest.members:
            refuse_changed(OwnEnsemble(folder, ensemble, manifest), device)
    except Stale as error:
        return error
    return None


def holds_nothing(folder: Path) -> bool:
    """Whether there is a manifest, and nothing that was trained or is being trained."""
    names = visible_names(folder) - {MEMBERS}
    idle = not any((folder / CLAIMS).glob("pack_*"))
    return names <= {"manifest.json"} and idle and not numbers_in(folder)


def bring_up_to_date(folder: Path, ensemble: EnsembleId) -> None:
    """Give a manifest of earlier versions, found to be right, the hashes that new ones have."""
    manifest = load(folder, ensemble)
    if manifest is None or not manifest.is_dated or not os.access(folder, os.W_OK):
        return  # looked at again next time
    warn(
        f"{folder} was made by an earlier version: its margins agree with the data and the "
        "model, what only training sees (dropout, initial weights) could not be compared"
    )
    rewrite(folder, ensemble, manifest)


def move_aside(root: Path, ensemble: EnsembleId, device: torch.device) -> Path | None:
    """Move the folder of a stale ensemble; where to, None where another process has done it."""
    folder = root / ensemble.folder
    try:
        (root / ASIDE).mkdir(parents=True, exist_ok=True)
        with Claims().wait(root / ASIDE / CLAIMS / "moving"):
            if why_stale(folder, ensemble, device) is None:
                return None
            number = 1
            while (target := root / ASIDE / str(number) / ensemble.folder).exists():
                number += 1
            refuse_claimed(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            return target
    except OSError as error:
        raise KlomError(f"{folder} cannot be moved aside ({error.strerror})") from error
