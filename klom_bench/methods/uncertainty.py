"""Methods that make the model less sure of F."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, evaluating
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.distillation import forgotten_by, together
from klom_bench.methods.method import method
from klom_bench.methods.ranges import ADAM, SHARE, Range

ENOUGH = -0.01
"""A member is done where its accuracy on F is so far from that on unseen points."""


@method(
    classes=True,
    spares_members=True,
    tune={
        "lr": ADAM,
        "alpha": Range(1.0, 32.0),
        "unseen": Range(0.5, 1.0, log=False),
        "share": SHARE,
    },
)
def lotus(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 8.0,
    unseen: float = 0.95,
    share: float = 0.3,
    lr: float = 1e-4,
    epochs: int = 10,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(optimizer="adam"),
) -> Iterator[None]:
    """LoTUS: cross-entropy with targets drawn from f0: one-hot on R, smooth on F by τ = e^(α Δ).

    Δ is the accuracy of f on F, in eval mode before each epoch, minus `unseen`, that of f0 on
    unseen points, both of two digits; a member with Δ ≤ -.01 is done. Targets: with Gumbel noise g
    of each point and class, drawn anew for each batch, softmax((f0(x) + g) / τ) on F and one-hot
    argmax(f0(x) + g) on R, f0 in eval mode and f in train mode. F and a share of R, drawn once, are
    shuffled together; weights decay by themselves, θ ← (1 - η λ) θ (AdamW).
    Paper: Spartalis 2025 (arXiv 2503.18314).
    Code: cspartalis/LoTUS, `LoTUS.unlearn` in src/unlearning_methods/lotus_class.py:
    equal to 2e-14.
    Departures: `unseen` is a hyperparameter, since methods get no unseen points (code: measured on
    a validation set; 0 where F is a whole class).
    Defaults: lr 1e-4, batch 128, weight decay 5e-4, share .3 as in src/helpers/config.py; α 8,
    10 epochs as for ResNet-18 on CIFAR-10 in src/bash_scripts/reproduce_results.sh; `unseen` ours.
    Costs: epochs * (2 * F + share * R).
    """
    f0 = model.clone().eval().requires_grad_(False)
    forgotten = forgotten_by(forget)
    some = int(share * len(retain))
    both = together(forget, retain, some)
    optimizer = descent.optimizer_for(model, lr)
    going = torch.ones(len(model), dtype=torch.bool)
    for _ in descent.epochs(optimizer, epochs):
        delta = [accuracy - round(unseen, 2) for accuracy in accuracies(model, forget, batch_size)]
        going &= torch.tensor([d > ENOUGH for d in delta])
        tau = torch.tensor([math.exp(alpha * d) for d in delta], device=model.device)
        before = model.clone()
        for x, point in both.batches(batch_size):
            target = drawn(f0(x), forgotten(point), tau, model.generators)
            loss = -(target * model(x).log_softmax(-1)).sum(-1).mean(1).sum()
            optimizer.zero_grad()
            loss.backward()
            decay(optimizer, weight_decay)
            optimizer.step()
        undo(model, before, ~going)
        forget.seen += len(forget)
        retain.seen += some
        yield


def accuracies(model: Ensemble, points: Points, batch_size: int) -> list[float]:
    """Of each member, two digits."""
    right = torch.zeros(len(model), dtype=torch.int64, device=model.device)
    with evaluating(model):
        for x, y in points.batches(batch_size):
            right += (model(x).argmax(-1) == y).sum(1)
    return [round(int(r) / len(points), 2) for r in right]


def drawn(
    z: Tensor, forgotten: Tensor, tau: Tensor, generators: Sequence[torch.Generator]
) -> Tensor:
    """Targets [M, B, classes]: smooth where it is forgotten, one-hot elsewhere."""
    waits = [torch.empty(z.shape[1:]).exponential_(generator=g) for g in generators]
    z = z - torch.stack(waits).to(z).log()
    smooth = (z / per_member(tau.to(z), z)).softmax(-1)
    hard = F.one_hot(z.argmax(-1), z.shape[-1]).to(z)
    return torch.where(forgotten.unsqueeze(-1), smooth, hard)


@torch.no_grad()
def decay(optimizer: torch.optim.Optimizer, weight_decay: float) -> None:
    """θ ← (1 - η λ) θ."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            p.mul_(1 - group["lr"] * weight_decay)


@torch.no_grad()
def undo(model: Ensemble, before: Ensemble, done: Tensor) -> None:
    """What members that are done were before; they never come back, so Adam's state may go on."""
    old = before.state_dict()
    for name, value in model.state_dict().items():
        value[done] = old[name][done]
