"""Training the members that are missing, beside any number of others who do the same."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch

from klom_bench.ensemble.threads import Check, side_by_side, thread_count
from klom_bench.errors import KlomError, warn
from klom_bench.progress import WAITING, Announce, Tick
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.leases import CLAIMS, Claims, Holder
from klom_bench.store.members import Member, numbers_in, read
from klom_bench.store.training import evaluate_pack, made_with, train_pack
from klom_bench.store.writing import remove_weights, weights_there, write_member, write_weights
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.pack_size import pack_on

Packs = Sequence[tuple[EnsembleId, list[int]]]
"""Members of an ensemble that are trained together."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""How long to wait for others before looking again."""
SAY_SECONDS = 3.0
"""Who waits for less says nothing."""
AT_ONCE: AbstractContextManager[object] = nullcontext()
LOG = logging.getLogger("klom_bench")


def fill(root: Path, lacking: Packs, device: torch.device, announce: Announce) -> None:
    """Train these packs, each of them here or by somebody else, until all are there."""
    labels = list(dict.fromkeys(e.label for e, _ in lacking))
    several = "originals and oracles"
    if any(e.is_half for e, _ in lacking):
        several = "originals, oracles and models on random halves"
    label = f"training {labels[0] if len(labels) == 1 else several}"
    filling = Filling(root, lacking, device, announce)
    # On a GPU one computes while the other hashes and writes what it has trained.
    threads = min(2 if device.type == "cuda" else thread_count(device), len(lacking))
    try:
        with announce(label, sum(len(pack) for _, pack in lacking)) as tick:
            side_by_side(lambda check: filling.work(check, tick), threads, device)
    finally:
        for note in [*filling.claims.notes, *filling.notes]:
            warn(note)


@dataclass
class Filling:
    """What the threads of one process share while they train."""

    root: Path
    lacking: Packs
    device: torch.device
    announce: Announce
    claims: Claims = field(default_factory=Claims)
    notes: list[str] = field(default_factory=list)
    known: dict[EnsembleId, dict[int, Member]] = field(default_factory=dict)
    """Members that were read, which never change."""
    saying: threading.Lock = field(default_factory=threading.Lock)
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Whose thread computes on a GPU."""

    def left(self) -> Packs:
        """What nobody has finished yet, told from the names of files."""
        there = {e: numbers_in(self.root / e.folder) for e, _ in self.lacking}
        packs = [(e, [i for i in pack if i not in there[e]]) for e, pack in self.lacking]
        return [(e, pack) for e, pack in packs if pack]

    def work(self, check: Check, tick: Tick) -> None:
        """Train packs until none is left; wait only while others are at all of them."""
        pause, since = PAUSE_SECONDS, time.monotonic()
        with ExitStack() as waiting:
            while left := self.left():
                others = [
                    other
                    for e, several in self.together(left)
                    for other in self.train(e, several, check, tick)
                ]
                if not all(others):
                    waiting.close()
                    pause, since = PAUSE_SECONDS, time.monotonic()
                    continue
                check()
                time.sleep(pause)
                pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)
                holders = [other for other in others if other and not other.is_here]
                late = time.monotonic() - since > SAY_SECONDS
                if holders and late and self.saying.acquire(blocking=False):
                    waiting.callback(self.saying.release)
                    waiting.enter_context(self.show(holders, left))

    def together(self, left: Packs) -> Iterator[tuple[EnsembleId, list[list[int]]]]:
        """Packs that are trained at once: one, but on a GPU as many as fill it."""
        for ensemble, of in groupby(left, key=lambda one: one[0]):
            several = [pack for _, pack in of]
            at_once = pack_on(ensemble.task, self.device) // ensemble.task.pack
            for start in range(0, len(several), at_once):
                yield ensemble, several[start : start + at_once]

    def train(
        self, ensemble: EnsembleId, several: Sequence[list[int]], check: Check, tick: Tick
    ) -> list[Holder | None]:
        """Train what is missing of packs; of each that somebody else is at, who."""
        check()
        folder, size = self.root / ensemble.folder, ensemble.task.pack
        with ExitStack() as claimed:
            others = [
                claimed.enter_context(self.claims.take(folder / CLAIMS / f"pack_{pack[0] // size}"))
                for pack in several
            ]
            there = numbers_in(folder)
            mine = [pack for pack, other in zip(several, others, strict=True) if not other]
            if todo := [i for pack in mine for i in pack if i not in there]:
                known = self.known.setdefault(ensemble, {})
                known |= read(folder, there - {*known})
                turn = self.turn if self.device.type == "cuda" else AT_ONCE
                make(folder, ensemble, todo, known, self.device, check, tick, self.notes, turn)
        return others

    def show(self, others: Sequence[Holder], left: Packs) -> AbstractContextManager[Tick]:
        """Show who is at all that is left."""
        holders = list(dict.fromkeys(others))
        more = f" and {len(holders) - 1} more" if holders[1:] else ""
        label, members = f"{WAITING} {holders[0]}{more}", sum(len(pack) for _, pack in left)
        LOG.info("%s: %d members are left, and others train all of them", label, members)
        return self.announce(label, members)


def make(
    folder: Path,
    ensemble: EnsembleId,
    todo: Sequence[int],
    company: Mapping[int, Member],
    device: torch.device,
    check: Check,
    tick: Tick,
    notes: list[str],
    turn: AbstractContextManager[object] = AT_ONCE,
) -> None:
    """Train these members, as far as no weights of them lie there; then evaluate what lies there.

    company: whole members, beside which they may be seen to have diverged. notes: what there is to
    say is added here. turn: held while this thread computes.
    """
    found = {i: weights_there(folder, ensemble, i, notes) for i in todo}
    weights = {i: w for i, w in found.items() if w}
    tick(len(weights))
    if new := [i for i in todo if i not in weights]:
        with turn:
            trained = train_pack(ensemble, new, device, check, tick)
        weights |= {t.member: write_weights(folder, ensemble, t, notes) for t in trained}
    with turn:
        evaluated = evaluate_pack(ensemble, {i: weights[i].state for i in todo}, device)
    try:
        weak = refuse_diverged(ensemble, evaluated, company)
    except KlomError:
        remove_weights(folder, ensemble, todo)
        raise
    for e in evaluated:
        write_member(
            folder, ensemble, e, weights[e.member], made_with(ensemble.task, device), notes
        )
    more = f" (and {len(weak) - 1} more of this pack)" if len(weak) > 1 else ""
    notes += [text + more for text in weak[:1]]
