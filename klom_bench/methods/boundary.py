"""Methods that move the decision boundary to where F lies."""

from collections.abc import Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method(tune={"bound": Range(0.01, 2.0)})
def boundary_shrink(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    bound: float = 0.1,
    lr: float = 1e-3,
    epochs: int = 10,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Boundary shrink: cross-entropy on F with the nearest wrong class as the label.

    That class is argmax_{c ≠ y} f0(x + bound · sign ∇_x ℓ(f0(x), y)), f0 the original (FGSM).
    Source: Chen 2023 (Boundary Unlearning). Defaults: bound .1, 10 epochs as in its code; lr,
    batch, momentum and weight decay as `random_label`, which differs in the labels alone.
    Sees: forget.
    """
    f0 = model.clone().eval().requires_grad_(False)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            optimizer.zero_grad()
            cross_entropy(model(x), nearest_wrong(f0, x, y, bound)).backward()
            optimizer.step()
        yield


def nearest_wrong(f0: Ensemble, x: Tensor, y: Tensor, bound: float) -> Tensor:
    """The wrong class [M, B] that a step of FGSM leads to."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(f0(x), y), x)
    with torch.no_grad():
        z = f0(x + bound * slope.sign())
        of_wrong: Tensor = z.scatter(-1, y.unsqueeze(-1), -torch.inf)
        return of_wrong.argmax(-1)
