"""Gradients of members, each scaled by itself."""

import torch
from torch import nn

from klom_bench.ensemble.per_member import per_member


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale each member's gradient down to this norm where it is longer."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (max_norm / norms).clamp(max=1.0)
    for g in gradients:
        g.mul_(per_member(scale, g))
