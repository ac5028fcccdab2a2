"""The store: ensembles trained once and found again, and those that others have published."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import torch

from klom_bench.engine import HERE, Engine
from klom_bench.errors import KlomError, warn
from klom_bench.files import atomic
from klom_bench.progress import Announce, silent
from klom_bench.published.ensemble import PublishedEnsemble
from klom_bench.published.find import find
from klom_bench.store.advice import (
    Wanted,
    download_command,
    how_to_bring,
    how_to_get,
    not_repeatable,
    to_bring,
    what_to_do,
)
from klom_bench.store.filling import fill
from klom_bench.store.held import Held
from klom_bench.store.leases import CLAIMS
from klom_bench.store.manifest import (
    Manifest,
    Stale,
    is_imported,
    load,
    rewrite,
    write_identity,
)
from klom_bench.store.members import MEMBERS
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.sharing import Packs
from klom_bench.store.stale import bring_up_to_date, holds_nothing, move_aside, why_stale
from klom_bench.tasks.checks import checked_model
from klom_bench.tasks.ensemble_id import EnsembleId, packs
from klom_bench.tasks.task import Task

Missing = Literal["train", "download", "error"]
WhenStale = Literal["error", "retrain"]


@dataclass(frozen=True)
class Store:
    """One folder; `missing` says what to do about ensembles that are not in it, `stale` about those
    that are of other data, another model or another recipe than is asked for.

    engine: what computes packs of its members, and of what is made of them."""

    root: Path
    missing: Missing = "train"
    stale: WhenStale = "error"
    engine: Engine = field(default=HERE, compare=False, repr=False)
    settled: set[object] = field(default_factory=set, compare=False, repr=False)
    """What was looked at already, and need not be again in this process."""

    def folder(self, ensemble: EnsembleId) -> Path:
        """Where an ensemble lies."""
        return self.root / ensemble.folder

    def manifest(self, ensemble: EnsembleId) -> Manifest:
        """What is there of an ensemble; no members where nothing is."""
        return load(self.folder(ensemble), ensemble) or Manifest({}, {})

    def held(self, ensemble: EnsembleId) -> Held:
        """What is there of an ensemble: of ours, else of a published one, else no members.

        KlomError for a folder that holds neither, or an ensemble of ours that is another one.
        """
        found = find(self.root, ensemble)
        return found or OwnEnsemble(self.folder(ensemble), ensemble, self.manifest(ensemble))

    def complete(
        self,
        wanted: Wanted,
        device: torch.device,
        announce: Announce = silent,
        shard: tuple[int, int] = (0, 1),
    ) -> list[Held]:
        """Have the first members of these ensembles here: trained or downloaded, as `missing` says.

        shard (i, n): of all packs only every n-th, from the i-th on. Returns what there is then of
        each, in the order of `wanted`.

        Any number of threads, processes and machines may do this together, and each takes packs
        that nobody else is at. None waits for others while a pack of any of these is free.
        """
        for ensemble, _ in wanted:
            self.settle(ensemble, device)
        if self.missing == "download":
            self._download(wanted, announce)
        held = [self.held(ensemble) for ensemble, _ in wanted]
        lacking = self._lacking(wanted, held, shard)
        numbers = (members for _, members in wanted)
        if untrained := to_bring(zip(held, numbers, strict=True)):
            raise KlomError("; ".join(how_to_bring(self.root, untrained)))
        ensembles = list(dict.fromkeys(ensemble for ensemble, _ in lacking))
        if lacking and self.missing != "train":
            self._refuse_missing(wanted, lacking)
        for task in {e.task: None for e in ensembles}:
            checked_model(task, device)
        self._say_what_will_not_repeat(ensemble.task for ensemble, _ in wanted)
        if not lacking:
            return held
        for ensemble in ensembles:
            self._take_folder(ensemble)
        fill(self.root, lacking, device, announce, self.engine)
        return [self.held(ensemble) for ensemble, _ in wanted]

    def _refuse_missing(self, wanted: Wanted, lacking: Packs) -> NoReturn:
        first = lacking[0][0]
        members = next(n for e, n in wanted if e == first)
        count = sum(len(pack) for e, pack in lacking if e == first)
        raise KlomError(
            f"{count} of {members} {first.label} are not in the store {self.root}: "
            f"{how_to_get([(e, n) for e, n in wanted if e.is_half == first.is_half])}"
        )

    def _download(self, wanted: Wanted, announce: Announce) -> None:
        """Fetch what is published of those that are short of members."""
        from klom_bench.published.hub import Hub

        for ensemble, members in wanted:
            published = ensemble.task.published and not ensemble.is_half
            if published and self.held(ensemble).lacks(members):
                Hub.default().fetch(self.root, ensemble, members, announce)

    def _lacking(self, wanted: Wanted, helds: Sequence[Held], shard: tuple[int, int]) -> Packs:
        """The packs that are not whole; KlomError for a published ensemble that is too small."""
        found = []
        number = 0
        for (ensemble, members), held in zip(wanted, helds, strict=True):
            if isinstance(held, PublishedEnsemble) and held.lacks(members):
                rest = f"`{download_command(wanted)}` gets the rest, "
                raise KlomError(
                    f"{held.complaint(members)}. A folder without manifest.json is published and "
                    f"never trained into: {rest if ensemble.task.published else ''}"
                    f"ask for {len(held.members)} (--klom-models={len(held.members)}), or move it "
                    "away to have the ensemble trained"
                )
            there = {*held.members}
            for pack in packs(range(members), ensemble.task.pack):
                mine = number % shard[1] == shard[0]
                number += 1
                missing = [i for i in pack if i not in there]
                if mine and missing and not held.published:
                    found.append((ensemble, missing))
        return found

    def _take_folder(self, ensemble: EnsembleId) -> None:
        """Make the folder, with a manifest: it is ours from now on. An older one is made anew."""
        folder = self.folder(ensemble)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for place in (folder, folder / MEMBERS, folder / CLAIMS):
                atomic.remove_leftovers(place)
            if (found := load(folder, ensemble)) is None:
                write_identity(folder, ensemble)
            elif found.listed:
                rewrite(folder, ensemble, found)
        except OSError as error:
            raise KlomError(
                f"the store {self.root} cannot be written ({error.strerror}): choose another "
                "folder with --klom-store"
            ) from error

    def settle(self, ensemble: EnsembleId, device: torch.device) -> None:
        """See that an ensemble of ours is what is asked for still, once a process.

        Stale where it is not; with stale="retrain" it is moved aside, and said.
        """
        why = self.stale_if(ensemble, device)
        folder = self.folder(ensemble)
        if why and (target := move_aside(self.root, ensemble, device)):
            warn(f"{why}. It was moved to {target}")
        if folder not in self.settled and not why and (folder / "manifest.json").exists():
            bring_up_to_date(folder, ensemble)
        self.settled.add(folder)

    def stale_if(self, ensemble: EnsembleId, device: torch.device) -> Stale | None:
        """Why an ensemble of ours is to be moved aside; raised where that was not asked for."""
        folder = self.folder(ensemble)
        if folder in self.settled or not (folder / "manifest.json").exists():
            return None
        why = why_stale(folder, ensemble, device)
        if why and holds_nothing(folder):
            (folder / "manifest.json").unlink(missing_ok=True)  # of a training that failed
            return None
        imported = why is not None and is_imported(folder)
        if why and (self.stale == "error" or imported or not ensemble.task.trains):
            raise Stale(f"{why}. {what_to_do(ensemble, folder, imported)}")
        return why

    def _say_what_will_not_repeat(self, tasks: Iterable[Task]) -> None:
        """Once a process and task."""
        for task in dict.fromkeys(tasks):
            if task not in self.settled and task.signature.unseeded:
                warn(not_repeatable(task))
            self.settled.add(task)
