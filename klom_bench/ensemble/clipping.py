"""Gradients of members, each scaled by itself."""

import torch
from torch import nn

from klom_bench.ensemble.per_member import per_member


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale each member's gradient down to this norm where it is longer."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    # Number by number and row by row, each row at an aligned place: else the last bits of a sum
    # depend on how many members are beside it.
    total = torch.zeros(len(gradients[0]), device=gradients[0].device, dtype=gradients[0].dtype)
    for g in gradients:
        total += torch.stack([row.dot(row) for row in map(torch.clone, g.flatten(1))])
    norms = total.sqrt()
    scale = (max_norm / norms).clamp(max=1.0)
    for g in gradients:
        g.mul_(per_member(scale, g))
