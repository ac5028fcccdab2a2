"""The gradient of a mean loss, without training."""

from collections.abc import Sequence

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, in_eval_mode
from klom_bench.ensemble.points import Points


def gradient(
    model: Ensemble, points: Points, parameters: Sequence[Tensor], batch_size: int
) -> list[Tensor]:
    """∇ of the mean cross-entropy over the points, in eval mode: a tensor a parameter [M, ...]."""
    total = [torch.zeros_like(p) for p in parameters]
    with in_eval_mode(model):
        for x, y in points.batches(batch_size):
            loss = model.loss(x, y) * (y.shape[1] / len(points))
            found = slopes_of(loss, parameters)
            total = [t + g for t, g in zip(total, found, strict=True)]
    return total


def slopes_of(
    loss: Tensor, parameters: Sequence[Tensor], create_graph: bool = False
) -> tuple[Tensor, ...]:
    """∇ of a loss, 0 for parameters that it does not depend on."""
    return torch.autograd.grad(
        loss, parameters, create_graph=create_graph, allow_unused=True, materialize_grads=True
    )
