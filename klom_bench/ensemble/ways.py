"""Whether members can be computed side by side: found out before anything is trained."""

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import (
    Architecture,
    Ensemble,
    evaluating,
    initial_state,
    new_model,
)
from klom_bench.ensemble.inputs import Inputs, each
from klom_bench.ensemble.outputs import Outputs
from klom_bench.ensemble.stacked import LARGE, SIDE_BY_SIDE, Way

ALIKE = 1e-3
"""Logits and gradients that differ by less, beside the largest, differ by rounding."""


def way_for(architecture: Architecture, outputs: Outputs, x: Inputs, y: Tensor) -> tuple[Way, str]:
    """How members are to be computed, and why not side by side: "" where they are.

    Two members are tried both ways on unlike batches of the points x [B, ...] and y [B], in train
    mode with their gradients and in eval mode: side by side they must say what each says alone,
    which rules out recurrent layers (no rule for vmap) and layers that mix what is in a batch.
    Large ones are faster one after the other, and not tried.
    """
    if sum(p.numel() for p in new_model(architecture).parameters()) >= LARGE:
        return Way(stacked=False), f"{LARGE:,} parameters or more"
    states = [initial_state(architecture, seed) for seed in (0, 1)]
    xs, ys = each(_unlike, x), torch.stack([y, y.flip(0)])

    def said(way: Way) -> list[Tensor]:
        model = Ensemble(architecture, states, outputs=outputs, way=way).to(y.device)
        z = model.train()(xs)
        outputs.mean_loss(z.float(), ys).backward()
        with evaluating(model):
            evaluated = model(xs)
        gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        return [z.detach(), evaluated, torch.cat(gradients)]

    alone = said(Way(stacked=False))
    try:
        together = said(SIDE_BY_SIDE)
    except Exception as error:  # whatever a model does that vmap cannot
        return Way(stacked=False), f"{type(error).__name__}: {error}".splitlines()[0]
    if all(map(_alike, alone, together)):
        return SIDE_BY_SIDE, ""
    return Way(stacked=False), "side by side members would say what they do not say alone"


def _unlike(t: Tensor) -> Tensor:
    """Two batches, of which the second has other statistics where numbers can be scaled."""
    other = t.flip(0)
    return torch.stack([t, 2 * other if t.is_floating_point() else other])


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= ALIKE * a.abs().max())
