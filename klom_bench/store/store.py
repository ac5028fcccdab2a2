"""The store: ensembles trained once and found again, and those that others have published."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

import torch
from filelock import Timeout

from klom_bench.ensemble.threads import Check, side_by_side, thread_count
from klom_bench.errors import KlomError, warn
from klom_bench.files import atomic
from klom_bench.progress import Announce, Tick, silent
from klom_bench.published.ensemble import PublishedEnsemble
from klom_bench.published.find import find
from klom_bench.store.advice import (
    Wanted,
    download_command,
    how_to_get,
    not_repeatable,
    what_to_do,
)
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.held import Held
from klom_bench.store.manifest import (
    Manifest,
    Stale,
    identity,
    load,
    save,
)
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.stale import bring_up_to_date, lock, move_aside, why_stale
from klom_bench.store.training import evaluate_pack, train_pack
from klom_bench.store.writing import change_manifest, read_state, write_margins, write_weights
from klom_bench.tasks.checks import checked_model
from klom_bench.tasks.ensemble_id import EnsembleId, packs
from klom_bench.tasks.task import Task

POLL_SECONDS = 0.1
Missing = Literal["train", "download", "error"]
WhenStale = Literal["error", "retrain"]


Packs = Sequence[tuple[EnsembleId, list[int]]]
"""Members of an ensemble that are trained together."""


@dataclass(frozen=True)
class Store:
    """One folder; `missing` says what to do about ensembles that are not in it, `stale` about those
    that are of other data, another model or another recipe than is asked for."""

    root: Path
    missing: Missing = "train"
    stale: WhenStale = "error"
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

        Any number of threads, processes and machines may do this together: each claims a pack
        through a file lock, which falls with the process that holds it. None waits for packs that
        others train while a pack of any of these ensembles is free.
        """
        for ensemble, _ in wanted:
            self.settle(ensemble, device)
        if self.missing == "download":
            self._download(wanted, announce)
        held = [self.held(ensemble) for ensemble, _ in wanted]
        lacking = self._lacking(wanted, held, shard)
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
        self._train(wanted, lacking, shard, device, announce)
        return [self.held(ensemble) for ensemble, _ in wanted]

    def _refuse_missing(self, wanted: Wanted, lacking: Packs) -> NoReturn:
        first = lacking[0][0]
        members = next(n for e, n in wanted if e == first)
        count = sum(len(pack) for e, pack in lacking if e == first)
        raise KlomError(
            f"{count} of {members} {first.label} are not in the store {self.root}: "
            f"{how_to_get([(e, n) for e, n in wanted if e.is_half == first.is_half])}"
        )

    def _train(
        self,
        wanted: Wanted,
        lacking: Packs,
        shard: tuple[int, int],
        device: torch.device,
        announce: Announce,
    ) -> None:
        """Train packs until none is left, beside others who do the same."""
        notes: list[str] = []

        def work(check: Check) -> None:
            while free := self._lacking(wanted, [self.held(e) for e, _ in wanted], shard):
                mine = [self._claim(e, pack, device, check, tick, notes) for e, pack in free]
                if not any(mine):  # others hold all that is left
                    check()
                    time.sleep(POLL_SECONDS)

        labels = list(dict.fromkeys(e.label for e, _ in lacking))
        several = "originals and oracles"
        if any(e.is_half for e, _ in lacking):
            several = "originals, oracles and models on random halves"
        label = f"training {labels[0] if len(labels) == 1 else several}"
        with announce(label, sum(len(pack) for _, pack in lacking)) as tick:
            side_by_side(work, min(thread_count(device), len(lacking)), device)
        for note in notes:
            warn(note)

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
        """Make the folder, with a manifest and room for locks: it is ours from now on."""
        folder = self.folder(ensemble)
        try:
            with lock(folder, "manifest"):
                atomic.remove_leftovers(folder)
                if load(folder, ensemble) is None:
                    save(folder, Manifest(identity(ensemble), {}))
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
        if why and self.stale == "error":
            raise Stale(f"{why}. {what_to_do(ensemble, folder)}")
        return why

    def _say_what_will_not_repeat(self, tasks: Iterable[Task]) -> None:
        """Once a process and task."""
        for task in dict.fromkeys(tasks):
            if task not in self.settled and task.signature.unseeded:
                warn(not_repeatable(task))
            self.settled.add(task)

    def _claim(
        self,
        ensemble: EnsembleId,
        pack: list[int],
        device: torch.device,
        check: Check,
        tick: Tick,
        notes: list[str],
    ) -> bool:
        """Train what is missing of a pack unless somebody else is at it; whether this one was.

        notes: what there is to say of its members is added here.
        """
        check()
        number = pack[0] // ensemble.task.pack
        try:
            with lock(self.folder(ensemble), f"pack_{number}").acquire(blocking=False):
                there = self.manifest(ensemble)
                if todo := [i for i in pack if i not in there.members]:
                    weak = self._make(ensemble, todo, there, device, check, tick)
                    more = f" (and {len(weak) - 1} more of this pack)" if len(weak) > 1 else ""
                    notes += [text + more for text in weak[:1]]
                return True
        except Timeout:
            return False

    def _make(
        self,
        ensemble: EnsembleId,
        todo: list[int],
        there: Manifest,
        device: torch.device,
        check: Check,
        tick: Tick,
    ) -> list[str]:
        """Train these members, as far as no earlier run has; keep their weights, then margins.

        Returns what there is to say of them.
        """
        folder = self.folder(ensemble)
        weights = {i: w for i, w in there.trained.items() if i in todo}
        states = {i: read_state(folder, ensemble, i, w) for i, w in weights.items()}
        tick(len(states))
        if new := [i for i in todo if i not in states]:
            trained = train_pack(ensemble, new, device, check, tick)
            weights |= write_weights(folder, ensemble, trained)
            states |= {t.member: t.state for t in trained}
        evaluated = evaluate_pack(ensemble, {i: states[i] for i in todo}, device)
        try:
            weak = refuse_diverged(ensemble, evaluated, there.members)
        except KlomError:
            change_manifest(folder, ensemble, without=todo)
            raise
        write_margins(folder, ensemble, evaluated, weights)
        return weak
