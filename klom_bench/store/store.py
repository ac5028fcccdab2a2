"""The store: ensembles trained once and found again, and those that others have published."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from filelock import Timeout

from klom_bench.ensemble.threads import Check, side_by_side, thread_count
from klom_bench.errors import KlomError, warn
from klom_bench.progress import Announce, Tick, silent
from klom_bench.store import files
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.layout import EnsembleId
from klom_bench.store.manifest import (
    PARTS,
    Manifest,
    Member,
    Stale,
    Weights,
    how_to_remove,
    identity,
    load,
    save,
)
from klom_bench.store.members import Evaluated, Trained, evaluate_pack, train_pack
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.published import PublishedEnsemble, look
from klom_bench.store.stale import bring_up_to_date, lock, move_aside, why_stale
from klom_bench.tasks.checks import checked_model
from klom_bench.tasks.task import Task

CPU = torch.device("cpu")
POLL_SECONDS = 0.1
Missing = Literal["train", "download", "error"]
WhenStale = Literal["error", "retrain"]


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


def what_to_do(ensemble: EnsembleId, folder: Path) -> str:
    """About a stale ensemble."""
    return (
        f"It is left as it is: --klom-stale=retrain moves it aside and trains anew, "
        f"{how_to_remove(ensemble, folder)}; or choose another --klom-store (or --klom-seed)"
    )


def not_repeatable(task: Task) -> str:
    """What is to be said of a model that draws random numbers from no member's stream."""
    return (
        f"the scores of task {task.name} will not repeat: {'; '.join(task.signature.unseeded)} "
        "(torch's dropout layers draw from the members' streams here, other draws do not)"
    )


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
        for ensemble, _ in wanted:
            self.settle(ensemble, device)
        if self.missing == "download":
            self._download(wanted, announce)
        lacking = self._lacking(wanted, shard)
        ensembles = list({id(e): e for e, _ in lacking}.values())
        if lacking and self.missing != "train":
            first = ensembles[0]
            members = next(n for e, n in wanted if e is first)
            count = sum(len(pack) for e, pack in lacking if e is first)
            raise KlomError(
                f"{count} of {members} {first.label} are not in the store {self.root}: "
                f"{how_to_get([(e, n) for e, n in wanted if e.is_half == first.is_half])}"
            )
        for task in {e.task: None for e in ensembles}:
            checked_model(task, device)
        self._say_what_will_not_repeat(ensemble.task for ensemble, _ in wanted)
        if not lacking:
            return
        for ensemble in ensembles:
            self._take_folder(ensemble)

        notes: list[str] = []

        def work(check: Check) -> None:
            while free := self._lacking(wanted, shard):
                mine = [self._claim(e, pack, device, check, tick, notes) for e, pack in free]
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
        for note in notes:
            warn(note)

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
            with lock(folder, "manifest"):
                files.remove_leftovers(folder)
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
        weights = {i: w for i, w in there.trained.items() if i in todo}
        states = {i: self._state(ensemble, i, w) for i, w in weights.items()}
        tick(len(states))
        if new := [i for i in todo if i not in states]:
            trained = train_pack(ensemble, new, device, check, tick)
            weights |= self._write_weights(ensemble, trained)
            states |= {t.member: t.state for t in trained}
        evaluated = evaluate_pack(ensemble, {i: states[i] for i in todo}, device)
        try:
            weak = refuse_diverged(ensemble, evaluated, there.members)
        except KlomError:
            self._change(ensemble, without=todo)
            raise
        self._write_margins(ensemble, evaluated, weights)
        return weak

    def _state(self, ensemble: EnsembleId, member: int, weights: Weights) -> dict[str, Any]:
        path = self.folder(ensemble) / ensemble.checkpoint(member)
        return files.state_from(files.read(path, weights.file))

    def _write_weights(self, ensemble: EnsembleId, trained: list[Trained]) -> dict[int, Weights]:
        folder, new = self.folder(ensemble), {}
        for t in trained:
            path = folder / ensemble.checkpoint(t.member)
            new[t.member] = Weights(
                files.write(path, files.state_bytes(t.state)), t.seconds, t.made_with
            )
        self._change(ensemble, trained=new)
        return new

    def _write_margins(
        self,
        ensemble: EnsembleId,
        evaluated: list[Evaluated],
        weights: Mapping[int, Weights],
    ) -> None:
        folder, new = self.folder(ensemble), {}
        for e in evaluated:
            mine = weights[e.member]
            sums = {ensemble.checkpoint(e.member): mine.file}
            for part, margins in zip(PARTS, (e.train_margins, e.val_margins), strict=True):
                name = ensemble.margins(e.member, part)
                sums[name] = files.write(folder / name, files.array_bytes(margins))
            new[e.member] = Member(sums, e.accuracy, e.margin_size, mine.seconds, mine.made_with)
        self._change(ensemble, members=new, without=list(new))

    def _change(
        self,
        ensemble: EnsembleId,
        trained: Mapping[int, Weights] | None = None,
        members: Mapping[int, Member] | None = None,
        without: Sequence[int] = (),
    ) -> None:
        """Add to the manifest; `without`: members that are no longer merely trained."""
        folder = self.folder(ensemble)
        with lock(folder, "manifest"):
            now = self.manifest(ensemble)
            left = {i: w for i, w in {**now.trained, **(trained or {})}.items() if i not in without}
            save(
                folder,
                Manifest(identity(ensemble), {**now.members, **(members or {})}, left),
            )

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
        try:
            stats = [path.stat() for path in self.held(ensemble).checkpoints(members)]
        except OSError as error:
            raise KlomError(
                f"{error.filename} is gone: was the store removed while the run was going on?"
            ) from error
        return [(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]
