"""Training the members that are missing, beside any number of others who do the same."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

import torch

from klom_bench.engine import HERE, Engine
from klom_bench.ensemble.threads import Check, side_by_side, thread_count
from klom_bench.errors import warn
from klom_bench.progress import Announce, Tick
from klom_bench.store.keeping import keep
from klom_bench.store.leases import Holder
from klom_bench.store.members import Member
from klom_bench.store.sending import train_there
from klom_bench.store.sharing import Packs, Sharing
from klom_bench.store.training import evaluate_pack, made_with, train_pack
from klom_bench.store.writing import weights_there, write_weights
from klom_bench.tasks.ensemble_id import EnsembleId

AT_ONCE: AbstractContextManager[object] = nullcontext()


def fill(
    root: Path,
    lacking: Packs,
    device: torch.device,
    announce: Announce,
    engine: Engine = HERE,
) -> None:
    """Train these packs, each of them by this engine or by somebody else, until all are there."""
    labels = list(dict.fromkeys(e.label for e, _ in lacking))
    several = "originals and oracles"
    if any(e.is_half for e, _ in lacking):
        several = "originals, oracles and models on random halves"
    label = f"training {labels[0] if len(labels) == 1 else several}"
    sharing = Sharing(root, lacking, engine.device(device), announce)
    # On a GPU one computes while the other hashes and writes what it has trained.
    on_gpu = sharing.device.type == "cuda"
    threads = min(2 if on_gpu else thread_count(device), len(lacking))
    turn = threading.Lock() if on_gpu else AT_ONCE
    try:
        with announce(label, sum(len(pack) for _, pack in lacking)) as tick:
            if engine.here:

                def work(check: Check) -> None:
                    sharing.work(lambda left: train_here(sharing, left, check, tick, turn), check)

                side_by_side(work, threads, device)
            else:
                sharing.work(lambda left: train_there(sharing, left, engine, device, tick))
    finally:
        for note in [*sharing.claims.notes, *sharing.notes]:
            warn(note)


def train_here(
    sharing: Sharing,
    left: Packs,
    check: Check,
    tick: Tick,
    turn: AbstractContextManager[object] = AT_ONCE,
) -> list[Holder | None]:
    """Train what is missing of packs; of each that somebody else is at, who.

    turn: held while this thread computes.
    """
    found: list[Holder | None] = []
    device, notes = sharing.device, sharing.notes
    for ensemble, several in sharing.together(left):
        check()
        with ExitStack() as claimed:
            others, todo = sharing.claim(ensemble, several, claimed)
            if todo:
                folder, company = sharing.root / ensemble.folder, sharing.company(ensemble)
                make(folder, ensemble, todo, company, device, check, tick, notes, turn)
        found += others
    return found


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

    company, notes: as of `keep`. turn: held while this thread computes.
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
    keep(folder, ensemble, evaluated, weights, company, made_with(ensemble.task, device), notes)
