"""The store: ensembles trained once and found again, and those that others have published."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import FileLock, Timeout

from klom_bench.ensemble.threads import Check, side_by_side, thread_count
from klom_bench.errors import KlomError
from klom_bench.progress import Announce, Tick, silent
from klom_bench.store import files
from klom_bench.store.layout import EnsembleId
from klom_bench.store.manifest import Manifest, Member, identity, load, save
from klom_bench.store.members import Trained, refuse_diverged, train_pack
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.published import PublishedEnsemble, look

CPU = torch.device("cpu")
POLL_SECONDS = 0.1
Missing = Literal["train", "download", "error"]


def packs(members: Iterable[int], size: int) -> list[list[int]]:
    """Member numbers grouped by fixed ranges: 0..size-1, size..2 size-1, and so on."""
    found: dict[int, list[int]] = {}
    for i in sorted(members):
        found.setdefault(i // size, []).append(i)
    return list(found.values())


Wanted = Sequence[tuple[EnsembleId, int]]


def download_command(wanted: Wanted) -> str:
    """The command that gets ensembles of one task."""
    task = wanted[0][0].task.name
    sets = ",".join(e.forget_set.name for e, _ in wanted if e.forget_set)
    which = f" --forget-set {sets}" if sets else ""
    return f"klom download {task}{which} --models {max(n for _, n in wanted)}"


def how_to_get(wanted: Wanted) -> str:
    """What to do about members that are missing, as a clause."""
    first = wanted[0][0]
    if first.task.published and not first.seed and not first.is_half:
        return (
            f"`{download_command(wanted)}` gets the published ones, "
            "--klom-missing=train trains them (long without a GPU), or name the store that holds "
            "them with --klom-store"
        )
    return "run once with --klom-missing=train, or name the store that holds them with --klom-store"


@dataclass(frozen=True)
class Store:
    """One folder; `missing` says what to do about ensembles that are not in it."""

    root: Path
    missing: Missing = "train"

    def folder(self, ensemble: EnsembleId) -> Path:
        """Where an ensemble lies."""
        return self.root / ensemble.folder

    def manifest(self, ensemble: EnsembleId) -> Manifest:
        """What is there of an ensemble; no members where nothing is."""
        return load(self.folder(ensemble), ensemble) or Manifest({}, {})

    def held(self, ensemble: EnsembleId) -> OwnEnsemble | PublishedEnsemble:
        """What is there of an ensemble: of ours, else of a published one, else no members.

        KlomError for a folder that holds neither, or an ensemble of ours that is another one.
        """
        found = look(self.root, ensemble)
        return found or OwnEnsemble(self.folder(ensemble), ensemble, self.manifest(ensemble))

    def complete(
        self,
        ensemble: EnsembleId,
        members: int,
        device: torch.device,
        announce: Announce = silent,
    ) -> Manifest:
        """Train members 0..members-1 as far as they are missing; returns the manifest."""
        self.complete_all([(ensemble, members)], device, announce)
        return self.manifest(ensemble)

    def complete_all(
        self,
        wanted: Wanted,
        device: torch.device,
        announce: Announce = silent,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        """Have the first members of these ensembles here: trained or downloaded, as `missing` says.

        shard (i, n): of all packs only every n-th, from the i-th on.

        Any number of threads, processes and machines may do this together: each claims a pack
        through a file lock, which falls with the process that holds it. None waits for packs that
        others train while a pack of any of these ensembles is free.
        """
        if self.missing == "download":
            self._download(wanted, announce)
        lacking = self._lacking(wanted, shard)
        if not lacking:
            return
        ensembles = list({id(e): e for e, _ in lacking}.values())
        if self.missing != "train":
            first = ensembles[0]
            members = next(n for e, n in wanted if e is first)
            count = sum(len(pack) for e, pack in lacking if e is first)
            raise KlomError(
                f"{count} of {members} {first.label} are not in the store {self.root}: "
                f"{how_to_get([(e, n) for e, n in wanted if e.is_half == first.is_half])}"
            )
        for ensemble in ensembles:
            self._take_folder(ensemble)

        def work(check: Check) -> None:
            while free := self._lacking(wanted, shard):
                mine = [self._claim(e, pack, device, check, tick) for e, pack in free]
                if not any(mine):  # others hold all that is left
                    check()
                    time.sleep(POLL_SECONDS)

        labels = [e.label for e in ensembles]
        several = "originals and oracles"
        if any(e.is_half for e in ensembles):
            several = "originals, oracles and models on random halves"
        label = f"training {labels[0] if len(labels) == 1 else several}"
        with announce(label, sum(len(pack) for _, pack in lacking)) as tick:
            side_by_side(work, min(thread_count(device), len(lacking)), device)

    def _download(self, wanted: Wanted, announce: Announce) -> None:
        """Fetch what is published of those that are short of members."""
        from klom_bench.store.hub import Hub

        for ensemble, members in wanted:
            published = ensemble.task.published and not ensemble.is_half
            if published and self.held(ensemble).lacks(members):
                Hub.default().fetch(self.root, ensemble, members, announce)

    def _lacking(
        self, wanted: Wanted, shard: tuple[int, int]
    ) -> list[tuple[EnsembleId, list[int]]]:
        """The packs that are not whole; KlomError for a published ensemble that is too small."""
        found = []
        number = 0
        for ensemble, members in wanted:
            held = self.held(ensemble)
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
                if mine and missing and isinstance(held, OwnEnsemble):
                    found.append((ensemble, missing))
        return found

    def _take_folder(self, ensemble: EnsembleId) -> None:
        """Make the folder, with a manifest and room for locks: it is ours from now on."""
        folder = self.folder(ensemble)
        try:
            (folder / ".locks").mkdir(parents=True, exist_ok=True)
            with self._lock(ensemble, "manifest"):
                if load(folder, ensemble) is None:
                    save(folder, Manifest(identity(ensemble), {}))
        except OSError as error:
            raise KlomError(
                f"the store {self.root} cannot be written ({error.strerror}): choose another "
                "folder with --klom-store"
            ) from error

    def _lock(self, ensemble: EnsembleId, name: str) -> FileLock:
        return FileLock(self.folder(ensemble) / ".locks" / f"{name}.lock", thread_local=False)

    def _claim(
        self,
        ensemble: EnsembleId,
        pack: list[int],
        device: torch.device,
        check: Check,
        tick: Tick,
    ) -> bool:
        """Train what is missing of a pack unless somebody else is at it; whether this one was."""
        check()
        number = pack[0] // ensemble.task.pack
        try:
            with self._lock(ensemble, f"pack_{number}").acquire(blocking=False):
                there = self.manifest(ensemble).members
                if todo := [i for i in pack if i not in there]:
                    trained = train_pack(ensemble, todo, device, check, tick)
                    refuse_diverged(ensemble, trained, there)
                    self._write(ensemble, trained)
                return True
        except Timeout:
            return False

    def _write(self, ensemble: EnsembleId, trained: list[Trained]) -> None:
        folder = self.folder(ensemble)
        new: dict[int, Member] = {}
        for t in trained:
            content = {
                ensemble.checkpoint(t.member): files.state_bytes(t.state),
                ensemble.margins(t.member, "train"): files.array_bytes(t.train_margins),
                ensemble.margins(t.member, "val"): files.array_bytes(t.val_margins),
            }
            sums = {name: files.write(folder / name, data) for name, data in content.items()}
            new[t.member] = Member(sums, t.accuracy, t.margin_size, t.seconds, t.made_with)
        with self._lock(ensemble, "manifest"):
            now = self.manifest(ensemble)
            save(folder, replace(now, members={**now.members, **new}))

    def states(self, ensemble: EnsembleId, members: int) -> list[dict[str, Any]]:
        """The state dicts of the first members."""
        return self.held(ensemble).states(members)

    def margins(
        self,
        ensemble: EnsembleId,
        members: int,
        device: torch.device = CPU,
        announce: Announce = silent,
    ) -> np.ndarray:
        """float32 [members, points], train points first."""
        return self.held(ensemble).margins(members, device, announce)

    def checkpoint_stats(self, ensemble: EnsembleId, members: int) -> list[tuple[int, int, int]]:
        """What changes when a checkpoint is written to: (inode, size, time of change) a member."""
        stats = [path.stat() for path in self.held(ensemble).checkpoints(members)]
        return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]
