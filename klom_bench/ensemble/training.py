"""The training loop of originals, oracles and retrains."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum at a constant learning rate; the last, ragged batch is dropped."""

    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4


def train(model: Ensemble, points: Points, recipe: Recipe) -> Iterator[None]:
    """Train all members by the recipe; yields after every epoch."""
    # The fused kernel would make a member depend on how it is packed (measured).
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=False,
    )
    model.train()
    for _ in range(recipe.epochs):
        for x, y in points.batches(recipe.batch_size, drop_last=True):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield
