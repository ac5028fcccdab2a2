"""Methods that make the model sparse while it forgets."""

from collections.abc import Iterator

import torch

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method(tune={"gamma": Range(1e-8, 1e-2)})
def l1_sparse(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    gamma: float = 5e-4,
    lr: float = 0.01,
    epochs: int = 10,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Fine-tuning that prunes: min L_R + γ_t |θ|_1, γ_t falling linearly from γ to 0.

    γ_t = γ (1 - t / epochs) in epoch t = 0, 1, ...
    Paper: Jia 2023 (arXiv 2304.04934).
    Code: OPTML-Group/Unlearn-Saliency, `FT_l1` in Classification/unlearn/FT.py: equal to 2.2e-16.
    Departures: none.
    Defaults: γ 5e-4 is ours (its scripts leave it open, its parser says .2); the rest as
    `finetune`.
    Costs: epochs * R.
    Sees: retain.
    """
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for t in descent.epochs(optimizer, epochs):
        gamma_t = gamma * (1 - t / epochs)
        for x, y in retain.batches(batch_size):
            norm = torch.stack([p.abs().sum() for p in model.parameters()]).sum()
            optimizer.zero_grad()
            (model.loss(x, y) + gamma_t * norm).backward()
            optimizer.step()
        yield
