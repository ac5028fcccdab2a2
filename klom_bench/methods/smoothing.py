"""Methods that make the model smooth around F."""

from collections.abc import Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import ADAM, Range


@method(moves_inputs=True, tune={"lr": ADAM, "sigma": Range(1e-3, 2.0)})
def jit(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    sigma: float = 0.01,
    samples: int = 25,
    lr: float = 3e-4,
    epochs: int = 1,
    batch_size: int = 128,
    momentum: float = 1.0,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """JiT: min over F of Σ_x mean_j ‖f(x) - f(x + ξ_j)‖ / ‖ξ_j‖, a local Lipschitz constant.

    ξ_j = σ ε for j = 1 ... N = samples, drawn anew for each batch and cut so that x + ξ_j stays
    between the least and the largest number of the batch; f(x + ξ_j) has no gradient; the sum over
    a batch, not its mean; in train mode. Gradients add up from batch to batch: momentum 1.
    Paper: Foster 2024 (arXiv 2402.01401).
    Code: jwf40/Information-Theoretic-Unlearning, `Lipschitz.modify_weight` in src/lipschitz.py:
    equal to 4e-16.
    Departures: batches in random order (code: as they are stored); more epochs than one are
    possible (code: one, its n_epochs is not read).
    Defaults: σ .01, lr 3e-4, batch 128 as in src/forget_random_main.py for "VGG16"; N 25 as in
    `lipschitz_forgetting` of src/forget_random_strategies.py; momentum 1 since `modify_weight`
    never zeroes the gradients of its own optimizer, plain SGD.
    Costs: epochs * F.
    Sees: forget.
    Tried with: samples 3.
    """
    optimizer = descent.optimizer_for(model, lr, momentum)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            z = model(x)
            loss = torch.zeros(y.shape[:2], dtype=z.dtype, device=z.device)
            for _ in range(samples):
                near = noisy(x, sigma, model)
                with torch.no_grad():
                    z_near = model(near)
                size = (x - near).flatten(2).norm(dim=-1)
                least = torch.finfo(size.dtype).tiny  # of ξ that is cut to nothing, as f's change
                change = (z - z_near).reshape(*y.shape[:2], -1).norm(dim=-1)
                loss = loss + change / size.clamp(min=least)
            optimizer.zero_grad()
            (loss.sum() / samples).backward()
            optimizer.step()
        yield


def noisy(x: Tensor, sigma: float, model: Ensemble) -> Tensor:
    """x + σ ε [M, B, ...], within the range of each member's batch."""
    low, high = (per_member(end, x) for end in x.flatten(1).aminmax(dim=1))
    return (x + sigma * model.noise_like(x)).clamp(low, high)
