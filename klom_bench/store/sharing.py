"""Packs that are lacking, shared with any number of others who train them, too."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import torch

from klom_bench.ensemble.threads import Check
from klom_bench.progress import WAITING, Announce, Tick
from klom_bench.store.leases import CLAIMS, Claims, Holder
from klom_bench.store.members import Member, numbers_in, read
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.pack_size import pack_on

Packs = Sequence[tuple[EnsembleId, list[int]]]
"""Members of an ensemble that are trained together."""

PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0
"""How long to wait for others before looking again."""
SAY_SECONDS = 3.0
"""Who waits for less says nothing."""
LOG = logging.getLogger("klom_bench")


@dataclass
class Sharing:
    """What one process knows while it trains: its threads share it."""

    root: Path
    lacking: Packs
    device: torch.device
    announce: Announce
    claims: Claims = field(default_factory=Claims)
    notes: list[str] = field(default_factory=list)
    known: dict[EnsembleId, dict[int, Member]] = field(default_factory=dict)
    """Members that were read, which never change."""
    saying: threading.Lock = field(default_factory=threading.Lock)

    def left(self) -> Packs:
        """What nobody has finished yet, told from the names of files."""
        there = {e: numbers_in(self.root / e.folder) for e, _ in self.lacking}
        packs = [(e, [i for i in pack if i not in there[e]]) for e, pack in self.lacking]
        return [(e, pack) for e, pack in packs if pack]

    def work(
        self, train: Callable[[Packs], Sequence[Holder | None]], check: Check | None = None
    ) -> None:
        """Train packs until none is left; wait only while others are at all of them.

        train: trains of these what nobody else is at; of each, who is.
        """
        pause, since = PAUSE_SECONDS, time.monotonic()
        with ExitStack() as waiting:
            while left := self.left():
                others = train(left)
                if not all(others):
                    waiting.close()
                    pause, since = PAUSE_SECONDS, time.monotonic()
                    continue
                if check:
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

    def claim(
        self, ensemble: EnsembleId, several: Sequence[list[int]], claimed: ExitStack
    ) -> tuple[list[Holder | None], list[int]]:
        """Who else is at each of some packs, and what is missing of the others: claimed by now."""
        folder, size = self.root / ensemble.folder, ensemble.task.pack
        others = [
            claimed.enter_context(self.claims.take(folder / CLAIMS / f"pack_{pack[0] // size}"))
            for pack in several
        ]
        there = numbers_in(folder)
        mine = [pack for pack, other in zip(several, others, strict=True) if not other]
        return others, [i for pack in mine for i in pack if i not in there]

    def company(self, ensemble: EnsembleId) -> Mapping[int, Member]:
        """The members that are whole by now."""
        folder, known = self.root / ensemble.folder, self.known.setdefault(ensemble, {})
        known |= read(folder, numbers_in(folder) - {*known})
        return known

    def show(self, others: Sequence[Holder], left: Packs) -> AbstractContextManager[Tick]:
        """Show who is at all that is left."""
        holders = list(dict.fromkeys(others))
        more = f" and {len(holders) - 1} more" if holders[1:] else ""
        label, members = f"{WAITING} {holders[0]}{more}", sum(len(pack) for _, pack in left)
        LOG.info("%s: %d members are left, and others train all of them", label, members)
        return self.announce(label, members)
