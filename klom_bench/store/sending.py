"""Packs that an engine trains in other processes: they compute, and only this one writes."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from klom_bench.engine import Engine
from klom_bench.progress import Tick
from klom_bench.store.keeping import keep
from klom_bench.store.leases import Holder
from klom_bench.store.sharing import Packs, Sharing
from klom_bench.store.training import Evaluated, Trained, evaluate_pack, made_with, train_pack
from klom_bench.store.writing import Weights, weights_there, write_weights
from klom_bench.tasks.ensemble_id import EnsembleId


@dataclass(frozen=True)
class Order:
    """Members to be made; ensemble: its number among those of a run."""

    ensemble: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class Made:
    """What comes back: members that were trained, what all say, and what computed it in words."""

    trained: list[Trained]
    evaluated: list[Evaluated]
    made_with: str


def make_pack(
    ensembles: list[EnsembleId],
    device: torch.device,
    order: Order,
    there: Mapping[int, dict[str, Any]],
) -> Made:
    """Train members, but for those whose weights are there, and evaluate all."""
    ensemble, members = ensembles[order.ensemble], order.members
    new = [i for i in members if i not in there]
    trained = train_pack(ensemble, new, device, lambda: None, lambda _: None) if new else []
    states = {**there, **{t.member: t.state for t in trained}}
    evaluated = evaluate_pack(ensemble, {i: states[i] for i in members}, device)
    return Made(trained, evaluated, made_with(ensemble.task, device))


def train_there(
    sharing: Sharing, left: Packs, engine: Engine, own: torch.device, tick: Tick
) -> list[Holder | None]:
    """Have what is missing of packs trained; of each that somebody else is at, who.

    A pack is claimed when it is sent, and let go when it is written. own: this process's device.
    """
    ensembles = list(dict.fromkeys(e for e, _ in left))
    others: list[Holder | None] = []
    claims: dict[Order, ExitStack] = {}
    lying: dict[Order, dict[int, Weights]] = {}

    def orders() -> Iterator[Order]:
        for ensemble, several in sharing.together(left):
            claimed = ExitStack()
            holders, todo = sharing.claim(ensemble, several, claimed)
            others.extend(holders)
            order = Order(ensembles.index(ensemble), tuple(todo))
            if todo:
                claims[order] = claimed
                yield order
            else:
                claimed.close()

    def there(order: Order) -> dict[int, dict[str, Any]]:
        """The states of those whose weights lie there: a killed run has left them."""
        ensemble = ensembles[order.ensemble]
        folder, notes = sharing.root / ensemble.folder, sharing.notes
        found = {i: weights_there(folder, ensemble, i, notes) for i in order.members}
        lying[order] = {i: w for i, w in found.items() if w}
        return {i: w.state for i, w in lying[order].items()}

    try:
        work = partial(make_pack, ensembles, sharing.device)
        with closing(engine.map(work, orders(), sharing.device, there)) as every:
            for order, made in every:
                with claims.pop(order):
                    _write(sharing, ensembles[order.ensemble], lying.pop(order), made, own)
                tick(len(order.members))
    finally:
        for claimed in claims.values():
            claimed.close()
    return others


def _write(
    sharing: Sharing,
    ensemble: EnsembleId,
    weights: dict[int, Weights],
    made: Made,
    own: torch.device,
) -> None:
    """Write what has come back; where another process was faster, what its weights say."""
    folder, notes, evaluated = sharing.root / ensemble.folder, sharing.notes, made.evaluated
    company = sharing.company(ensemble)
    for t in made.trained:
        weights[t.member] = write_weights(folder, ensemble, t, notes)
    if any(weights[t.member].state is not t.state for t in made.trained):
        states = {e.member: weights[e.member].state for e in evaluated}
        evaluated = evaluate_pack(ensemble, states, own)
    keep(folder, ensemble, evaluated, weights, company, made.made_with, notes)
