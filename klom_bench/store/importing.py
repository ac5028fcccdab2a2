"""Models that were trained elsewhere become members of the store: all that are asked for, or none.

They are read, checked and evaluated in a folder aside, which is given its name in the end. Where
members are there already, files of the new ones are moved beside theirs, and those that say that a
member is whole come last.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError, warn
from klom_bench.files import atomic
from klom_bench.files.arrays import read_state
from klom_bench.files.patterns import Found
from klom_bench.metrics.sanity import Sanity
from klom_bench.progress import Announce, Tick, silent
from klom_bench.published.checkpoints import fitting
from klom_bench.store import members
from klom_bench.store.held import Held
from klom_bench.store.import_checks import (
    against_oracles_there,
    against_originals,
    refuse_gaps,
    refuse_odd,
    refuse_others,
)
from klom_bench.store.leases import CLAIMS, Claims
from klom_bench.store.manifest import how_to_remove, write_identity
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.store import Store
from klom_bench.store.training import Evaluated, evaluate_pack, made_with
from klom_bench.store.writing import Weights, write_member
from klom_bench.tasks.checks import checked_model
from klom_bench.tasks.ensemble_id import EnsembleId, packs

ASIDE = ".importing"
"""Folder of a store in which members are made ready."""


@dataclass(frozen=True)
class Imported:
    """What became of an import.

    new: members that were added. there: those that were there before, from the same weights.
    accuracy: mean a split, of the new ones. sanity: oracles against originals, where both are
    there. notes: what else is to be said.
    """

    new: Sequence[int]
    there: Sequence[int]
    accuracy: Mapping[str, float]
    sanity: Sanity | None
    notes: Sequence[str]


def first_number(held: Held, files: Mapping[int, Path]) -> int:
    """The number in the name of what is member 0: the lowest of the first import."""
    first = min(files)
    if isinstance(held, OwnEnsemble) and held.members:
        origin = held.manifest.members[held.members[0]].imported
        first = origin["number"] - held.members[0] if origin else first
    if min(files) < first:
        raise KlomError(
            f"{files[min(files)]} has a number below {first}, which became member 0 when the first "
            "models were imported: remove these, and import all at once"
        )
    return first


def import_members(
    store: Store,
    ensemble: EnsembleId,
    found: Found,
    device: torch.device,
    announce: Announce = silent,
) -> Imported:
    """Make members of these files, all or none; KlomError for what is no member of the ensemble."""
    checked_model(ensemble.task, device)
    with alone(store.root) as aside:
        store.settle(ensemble, device)
        held = store.held(ensemble)
        refuse_others(held, store.root)
        assert isinstance(held, OwnEnsemble)
        first = first_number(held, found.files)
        files = {number - first: path for number, path in found.files.items()}
        reading = Reading(held, found.pattern, first, files, device, aside)
        refuse_gaps(held, files)
        with announce(f"importing {ensemble.label}", len(files)) as tick:
            there, new = reading.told_apart(tick)
            if not new:
                return Imported([], there, {}, None, [])
            work = partial(reading.make, tick)
            made = [e for some in each(packs(new, ensemble.task.pack), work, device) for e in some]
        notes = refuse_odd(held, made, files)
        if ensemble.role == "oracle":
            sane, more = against_originals(store, held, made, files, device)
        else:
            sane, more = None, against_oracles_there(store, held, made, device)
        _put_in_place(aside, store.root / ensemble.folder, held)
        accuracy = {
            split: float(np.mean([e.accuracy[split] for e in made])) for split in made[0].accuracy
        }
        return Imported(new, there, accuracy, sane, [*notes, *more])


@contextmanager
def alone(root: Path) -> Iterator[Path]:
    """A folder to make members ready in, for the one import into a store at a time.

    What a killed one has left there is removed. KlomError where another one is under way.
    """
    above = root / ASIDE
    try:
        above.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KlomError(f"the store {root} cannot be written ({error.strerror})") from error
    claims = Claims()
    with claims.take(above / CLAIMS / "import") as other:
        for note in claims.notes:
            warn(note)
        if other:
            raise KlomError(f"another import into {root} is under way, by {other}: let it end")
        aside = above / "members"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@dataclass(frozen=True)
class Reading:
    """Files on their way into a store."""

    held: OwnEnsemble
    pattern: str
    first: int
    files: Mapping[int, Path]
    device: torch.device
    aside: Path
    when: str = field(default_factory=lambda: datetime.now().astimezone().isoformat("T", "seconds"))

    def state(self, member: int) -> dict[str, Tensor]:
        """What a file holds, if it is a member; KlomError where it is none."""
        path = self.files[member]
        found = fitting(read_state(path), self.held.ensemble.task.entries, path)
        state = {name: value.clone() for name, value in found.items()}  # of views, nothing more
        for name, value in state.items():
            if value.is_floating_point() and not bool(value.isfinite().all()):
                raise KlomError(f"{path}: {name} is not finite: this model diverged; leave it out")
        return state

    def told_apart(self, tick: Tick) -> tuple[list[int], list[int]]:
        """(members that are there already, new ones); KlomError where other weights are there."""
        there = sorted({*self.files} & {*self.held.members})
        for i in there:
            (mine,) = self.held.states_of([i])
            theirs = self.state(i)
            if any(not torch.equal(mine[name], theirs[name]) for name in mine):
                raise KlomError(
                    f"member {i} of the {self.held.ensemble.label} is there already, with other "
                    f"weights than those of {self.files[i]}: nothing is overwritten. "
                    f"{how_to_remove(self.held.ensemble, self.held.folder)}, or name another --seed"
                )
            tick(1)
        return there, sorted({*self.files} - {*there})

    def make(self, tick: Tick, pack: list[int], check: Check) -> list[Evaluated]:
        """Write a pack of members aside."""
        ensemble, weights = self.held.ensemble, {}
        for i in pack:
            check()
            state = self.state(i)
            content = atomic.state_bytes(state)
            checksum = atomic.write(self.aside / ensemble.checkpoint_file(i), content)
            weights[i] = Weights(state, checksum, None)
        states = {i: w.state for i, w in weights.items()}
        evaluated = evaluate_pack(ensemble, states, self.device)
        for e in evaluated:
            path = self.files[e.member]
            origin = {
                "file": str(path.absolute()),
                "sha256": atomic.sha256(path.read_bytes()),
                "pattern": self.pattern,
                "number": e.member + self.first,
                "when": self.when,
            }
            computed = made_with(ensemble.task, self.device)
            write_member(self.aside, ensemble, e, weights[e.member], computed, [], origin)
            tick(1)
        return evaluated


def _put_in_place(aside: Path, folder: Path, held: OwnEnsemble) -> None:
    """Give what is ready its name, at once where nothing is there yet."""
    ready = members.read_all(aside)
    try:
        if not folder.exists():
            write_identity(aside, held.ensemble, imported=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            aside.rename(folder)
            return
        if not held.manifest.identity:
            write_identity(folder, held.ensemble, imported=True)
        for name in (name for member in ready.values() for name in member.files):
            (aside / name).replace(folder / name)
    except OSError as error:
        raise KlomError(f"{folder} cannot be written ({error.strerror}): import again") from error
    for i, member in ready.items():
        members.write(folder, i, member)
