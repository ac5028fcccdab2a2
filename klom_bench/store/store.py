"""The store: ensembles trained once, found again, and read with their checksums."""

import time
from collections.abc import Callable, Iterable, Sequence
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

POLL_SECONDS = 0.1


def packs(members: Iterable[int], size: int) -> list[list[int]]:
    """Member numbers grouped by fixed ranges: 0..size-1, size..2 size-1, and so on."""
    found: dict[int, list[int]] = {}
    for i in sorted(members):
        found.setdefault(i // size, []).append(i)
    return list(found.values())


@dataclass(frozen=True)
class Store:
    """One folder; `missing` says what to do about ensembles that are not in it."""

    root: Path
    missing: Literal["train", "error"] = "train"

    def folder(self, ensemble: EnsembleId) -> Path:
        """Where an ensemble lies."""
        return self.root / ensemble.folder

    def manifest(self, ensemble: EnsembleId) -> Manifest:
        """What is there of an ensemble; no members where nothing is."""
        return load(self.folder(ensemble), ensemble) or Manifest(identity(ensemble), {})

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
        wanted: Sequence[tuple[EnsembleId, int]],
        device: torch.device,
        announce: Announce = silent,
    ) -> None:
        """Train the first members of these ensembles as far as they are missing.

        Any number of threads, processes and machines may do this together: each claims a pack
        through a file lock, which falls with the process that holds it. None waits for packs that
        others train while a pack of any of these ensembles is free.
        """
        lacking = self._lacking(wanted)
        if not lacking:
            return
        ensembles = list({id(e): e for e, _ in lacking}.values())
        if self.missing == "error":
            first = ensembles[0]
            members = next(n for e, n in wanted if e is first)
            count = sum(len(pack) for e, pack in lacking if e is first)
            raise KlomError(
                f"{count} of {members} {first.label} are not in the store {self.root}: "
                "run once with --klom-missing=train, or name the store that holds them "
                "with --klom-store"
            )
        for ensemble in ensembles:
            self._take_folder(ensemble)

        def work(check: Check) -> None:
            while free := self._lacking(wanted):
                mine = [self._claim(e, pack, device, check, tick) for e, pack in free]
                if not any(mine):  # others hold all that is left
                    check()
                    time.sleep(POLL_SECONDS)

        labels = [e.label for e in ensembles]
        label = f"training {labels[0] if len(labels) == 1 else 'originals and oracles'}"
        with announce(label, sum(len(pack) for _, pack in lacking)) as tick:
            side_by_side(work, min(thread_count(device), len(lacking)), device)

    def _lacking(
        self, wanted: Sequence[tuple[EnsembleId, int]]
    ) -> list[tuple[EnsembleId, list[int]]]:
        """The packs that are not whole."""
        return [
            (ensemble, pack)
            for ensemble, members in wanted
            for pack in packs(self.manifest(ensemble).missing(range(members)), ensemble.task.pack)
        ]

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
        """The state dicts of members 0..members-1."""
        return [
            files.state_from(content)
            for content in self._read(ensemble, members, ensemble.checkpoint)
        ]

    def margins(self, ensemble: EnsembleId, members: int) -> np.ndarray:
        """float32 [members, points], train points first."""

        def part(name: Literal["train", "val"]) -> np.ndarray:
            contents = self._read(ensemble, members, lambda i: ensemble.margins(i, name))
            return np.stack([files.array_from(content) for content in contents])

        return np.concatenate([part("train"), part("val")], axis=1)

    def _read(
        self, ensemble: EnsembleId, members: int, name: Callable[[int], str]
    ) -> Iterable[bytes]:
        manifest, folder = self.manifest(ensemble), self.folder(ensemble)
        for i in range(members):
            yield files.read(folder / name(i), manifest.members[i].files[name(i)])

    def checkpoint_stats(self, ensemble: EnsembleId, members: int) -> list[tuple[int, int, int]]:
        """What changes when a checkpoint is written to: (inode, size, time of change) a member."""
        stats = [(self.folder(ensemble) / ensemble.checkpoint(i)).stat() for i in range(members)]
        return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]
