"""Methods that teach wrong labels for the forget set."""

from collections.abc import Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.gradient import gradient
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import SHARE


def wrong(y: Tensor, classes: int, model: Ensemble) -> Tensor:
    """Labels [M, B] drawn among the wrong classes, each member's from its own stream."""
    shift = [torch.randint(1, classes, y.shape[1:], generator=g) for g in model.generators]
    return (y + torch.stack(shift).to(y.device)) % classes


@method(classes=True)
def random_label(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-3,
    epochs: int = 5,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Random labels on F, true labels on R (amnesiac): each epoch on F, then on R.

    Labels of F are drawn anew for each batch among the wrong classes.
    Paper: Golatkar 2020 (arXiv 1911.04933), Graves 2021 (arXiv 2010.10981).
    Code: OPTML-Group/Unlearn-Saliency, `RL` in Classification/unlearn/RL.py: equal to 4.4e-16 with
    the same labels.
    Departures: the true class is never drawn (there it may be, a step then differs by 32 to 40 %).
    Defaults: lr and epochs from the published ranges lr 1e-4 ... 1e-2, 3 to 10 epochs; batch,
    momentum and weight decay ours, those of training.
    Costs: epochs * (F + R).
    """
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            z = model(x)
            optimizer.zero_grad()
            cross_entropy(z, wrong(y, z.shape[-1], model)).backward()
            optimizer.step()
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            model.loss(x, y).backward()
            optimizer.step()
        yield


@method(classes=True, tune={"share": SHARE})
def salun(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    share: float = 0.5,
    lr: float = 0.013,
    epochs: int = 10,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Saliency unlearning: random labels, but only the weights with the largest |∇L_F| may move.

    m = 1[|∇L_F(θ0)| ≥ its quantile], over all weights of a model, in eval mode; after each step
    of `random_label` θ ← m θ + (1 - m) θ0, since momentum and weight decay move masked weights.
    Paper: Fan 2024 (arXiv 2310.12508).
    Code: OPTML-Group/Unlearn-Saliency, `save_gradient_ratio` in Classification/generate_mask.py and
    `RL` in unlearn/RL.py: equal to 4.4e-16 with the same labels, where F is one batch.
    Departures: ∇ of the mean over F (there the sum of batch means, so that a last small batch
    weighs more: 23 % of a mask differ); labels as `random_label`.
    Defaults: share .5, lr .013, 10 epochs, momentum .9, weight decay 5e-4 as there; batch 64 ours
    (256 there).
    Costs: F + epochs * (F + R).
    Trains: share of the weights.
    """
    before = [p.detach().clone() for p in model.parameters()]
    masks = salient(model, forget, share, batch_size)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)

    def step(loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for p, p0, mask in zip(model.parameters(), before, masks, strict=True):
                p.copy_(torch.where(mask, p, p0))

    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            z = model(x)
            step(cross_entropy(z, wrong(y, z.shape[-1], model)))
        for x, y in retain.batches(batch_size):
            step(model.loss(x, y))
        yield


def salient(model: Ensemble, forget: Points, share: float, batch_size: int) -> list[Tensor]:
    """One mask a parameter, [M, ...]: the share of a model's weights with the largest |∇L_F|."""
    total = gradient(model, forget, list(model.parameters()), batch_size)
    sizes = torch.cat([t.abs().flatten(1) for t in total], 1)
    count = max(1, round(share * sizes.shape[1]))
    least = sizes.topk(count, 1).values[:, -1]
    return [t.abs() >= per_member(least, t) for t in total]
