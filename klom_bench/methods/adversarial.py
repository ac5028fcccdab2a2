"""Methods that learn what the original gets wrong close to F."""

from collections.abc import Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.mixed import mixed
from klom_bench.methods.ranges import Range

DOUBLINGS = 20
"""A bound grows at most so often: a model may be constant where a point lies."""


@method(classes=True, moves_inputs=True, tune={"bound": Range(0.01, 1.0), "decay": Range(0.1, 1.0)})
def amun(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    bound: float = 0.04,
    attack_steps: int = 50,
    lr: float = 0.01,
    decay: float = 0.1,
    epochs: int = 10,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """AMUN: min L on R, F and A, where A are the nearest points to F that f0 takes for others.

    A = {(x', argmax f0(x'))}, one a point of F, made once by PGD in the norm of L2, f0 in eval
    mode: x' ← x + δ, δ ← δ + (ε / 10) g / ‖g‖, shortened to ε, g = ∇_x ℓ(f0(x'), y), until
    argmax f0(x') ≠ y; ε = `bound` doubles after each `attack_steps` steps. R, F with its true
    labels, and A are shuffled together; lr x `decay` after each epoch. F counts as seen once for
    all of PGD, though each step of it costs a pass.
    Paper: Ebrahimpour-Boroojeny 2025 (arXiv 2503.00917).
    Code: Ali-E/AMUN, `PGDL2` in pgdl2_modified.py and `train` in adversarial_unlearn.py: equal to
    2e-16 without its clamp and without the 1e-10 beside ‖g‖ (with it 3e-9: g is a mean there).
    Departures: x' is not clamped to [0, 1], since inputs are standardised here, and ε is in their
    units; it doubles 19 times at most (code: for ever), and a point that is right
    even then keeps its label.
    Defaults: ε .04, 50 steps as in `PGDL2`; lr .01, x .1 after each epoch, 10 epochs as in its
    `hyperparam_tune.py`; batch 128, momentum .9, weight decay 5e-4 as in `adversarial_unlearn.py`.
    Costs: F + epochs * (2 * F + R).
    Tried with: attack_steps 2.
    """
    f0 = model.clone().eval().requires_grad_(False)
    found = [nearest(f0, x, y, bound, attack_steps) for x, y in forget.batches(batch_size)]
    x_a, y_a = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    a = (len(forget.y) + torch.arange(len(forget))).expand(len(model), -1)
    rows = torch.cat([retain.by_member, forget.by_member, a], 1)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in mixed(forget, rows, x_a, y_a, batch_size):
            optimizer.zero_grad()
            model.loss(x, y).backward()
            optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= decay
        retain.seen += len(retain)
        forget.seen += 2 * len(forget)
        yield


def nearest(f0: Ensemble, x: Tensor, y: Tensor, bound: float, steps: int) -> tuple[Tensor, Tensor]:
    """x' [M, B, ...] and what f0 takes it for [M, B]; each point goes its own way."""
    shape = (*y.shape, *[1] * (x.ndim - 2))

    def norm(v: Tensor) -> Tensor:
        norms: Tensor = v.flatten(2).norm(dim=2)
        return norms.view(shape)

    delta = torch.zeros_like(x)
    for t in range(DOUBLINGS * steps + 1):
        near = (x + delta).requires_grad_()
        z = f0(near)
        label = z.argmax(-1)
        if not (right := (label == y).view(shape)).any():
            break
        eps = bound * 2 ** (t // steps)
        (g,) = torch.autograd.grad(cross_entropy(z, y) * y.shape[1], near)
        moved = delta + eps / 10 * g / (norm(g) + 1e-10)
        moved *= (eps / norm(moved)).clamp(max=1.0)
        delta = torch.where(right, moved, delta)
    return near.detach(), label
