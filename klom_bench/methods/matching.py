"""Methods that match given outputs: those of oracles, or those that datamodels predict."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, evaluating, logits
from klom_bench.ensemble.points import Points
from klom_bench.methods.dampening import squared_norm
from klom_bench.methods.descent import Descent
from klom_bench.methods.distillation import together
from klom_bench.methods.method import method
from klom_bench.methods.needs import SUBSETS, Corrected, Datamodels, Oracles
from klom_bench.methods.ranges import ADAM, Range


@method(tune={"lr": ADAM, "ratio": Range(1.0, 100.0)})
def oracle_matching(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    oracles: Oracles,
    target: Literal["member", "mean"] = "member",
    ratio: float = 5.0,
    lr: float = 1e-3,
    epochs: int = 10,
    batch_size: int = 512,
    decay: float = 0.95,
    descent: Descent = Descent(optimizer="adam"),
) -> Iterator[None]:
    """Oracle matching (OM), an upper bound: min ‖f(x) - g(x)‖² on F and R', g an oracle.

    R' are ratio |F| points of R, drawn anew each epoch; lr x decay after each. target `member`: g
    of member i is oracle i; `mean`: g of all members is the mean of all oracles, as in the paper,
    which narrows the spread between members.
    Paper: Georgiev 2024 (arXiv 2410.23232), algorithm C.1.
    Code: Attribute-to-Delete, `oracle_matching`: read, not run.
    Departures: R' drawn anew each epoch (there once); the loss is a sum over classes, not a mean,
    which Adam feels in its eps alone; `member` is ours.
    Defaults: Adam 1e-3, batch 512, |R'| = 5 |F|, 10 epochs, lr x .95 from the ranges of the public
    codes (Attribute-to-Delete: 5e-4, 3 |F|, 5 epochs).
    Costs: epochs * (F + min(ratio * F, R)).
    """
    given = oracles.logits if target == "member" else oracles.mean.expand_as(oracles.logits)
    yield from match(model, forget, retain, given, ratio, 1, lr, epochs, batch_size, decay, descent)


@method(tune={"ridge": Range(1e-3, 1.0)})
def dm_direct(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    datamodels: Datamodels,
    subsets: int = SUBSETS,
    ridge: float = 0.03,
) -> Iterator[Callable[[Tensor], Tensor]]:
    """Datamodel direct: f0(x) - Σ_{z in F} τ(z, x), τ a linear datamodel; no weight changes.

    τ is estimated from `subsets` models trained on random halves of the train points: least squares
    with a ridge (`Datamodels`). It knows the task's points only.
    Paper: Georgiev 2024 (arXiv 2410.23232), algorithm C.2.
    Code: Attribute-to-Delete, `dm_direct`: read, not run.
    Departures: τ by ridge (there LASSO or TRAK, computed before).
    Defaults: ours, measured on `digits`.
    Costs: 0.
    Trains: nothing.
    Sees: forget.
    """
    change = removal(datamodels, forget, subsets, ridge)
    yield Corrected(model, change, datamodels)


@method(
    tune={
        "lr": ADAM,
        "ridge": Range(1e-3, 1.0),
        "ratio": Range(1.0, 30.0),
        "repeats": Range(1, 10, whole=True),
    }
)
def dmm(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    datamodels: Datamodels,
    subsets: int = SUBSETS,
    ridge: float = 0.03,
    ratio: float = 20.0,
    repeats: int = 5,
    lr: float = 1e-4,
    epochs: int = 4,
    batch_size: int = 512,
    decay: float = 1.0,
    descent: Descent = Descent(optimizer="adam"),
) -> Iterator[None]:
    """Datamodel matching (DMM): as `oracle_matching`, against what `dm_direct` predicts.

    min ‖f(x) - (f0(x) - Σ_{z in F} τ(z, x))‖² on F (`repeats` times an epoch) and ratio |F| points
    of R, drawn anew each epoch.
    Paper: Georgiev 2024 (arXiv 2410.23232), algorithm C.3.
    Code: Attribute-to-Delete, `dm_matching`: read, not run.
    Departures: as `oracle_matching`; τ as `dm_direct`; lr stays (there x .95 an epoch).
    Defaults: Adam 1e-4, 4 epochs, retain x 20, forget x 5 are ours; batch as `oracle_matching`.
    Costs: epochs * (repeats * F + min(ratio * F, R)).
    """
    train = len(forget.y)
    change = removal(datamodels, forget, subsets, ridge)[:, :train]
    with evaluating(model):
        f0 = logits(model, forget.x, len(model), forget.prepare, device=forget.y.device)
    g = f0 - change.to(f0)
    yield from match(
        model, forget, retain, g, ratio, repeats, lr, epochs, batch_size, decay, descent
    )


def removal(datamodels: Datamodels, forget: Points, subsets: int, ridge: float) -> Tensor:
    """By how much logits fall without F: [M or 1, points, classes]."""
    known = datamodels.first(subsets)
    rows = forget.indices if forget.indices.ndim == 2 else forget.indices.unsqueeze(0)
    return torch.stack([known.removal(one, ridge) for one in rows])


def match(
    model: Ensemble,
    forget: Points,
    retain: Points,
    g: Tensor,
    ratio: float,
    repeats: int,
    lr: float,
    epochs: int,
    batch_size: int,
    decay: float,
    descent: Descent,
) -> Iterator[None]:
    """min ‖f(x) - g(x)‖² on F (`repeats` times) and R', g [M, train points, classes]."""
    some = min(round(ratio * len(forget)), len(retain))
    g = g.to(forget.y.device)
    member = torch.arange(len(model), device=g.device).unsqueeze(1)
    optimizer = descent.optimizer_for(model, lr)
    for _ in descent.epochs(optimizer, epochs):
        both = together(forget, retain, some, repeats)
        for x, point in both.batches(batch_size):
            optimizer.zero_grad()
            squared_norm(model(x) - g[member, point]).backward()
            optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= decay
        forget.seen += repeats * len(forget)
        retain.seen += some
        yield
