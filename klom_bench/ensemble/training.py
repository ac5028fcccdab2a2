"""The training loop of originals, oracles and retrains."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from klom_bench.ensemble.augmentation import augmented
from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.optimizers import SGD
from klom_bench.ensemble.points import Points


@dataclass(frozen=True)
class Recipe:
    """How models are trained: SGD with momentum; the last, ragged batch of an epoch is dropped.

    Args:
        epochs, batch_size, lr, momentum, weight_decay, label_smoothing: as in torch.
        peak_epoch: the learning rate rises from 0 to `lr` at this epoch and falls to 0 at the end,
            linearly, step by step; 0: it is constant.
        undecayed_norm: no weight decay for norm layers.
        mixed_precision: bfloat16 where there is a GPU.
        flip, translate, cutout: augmentation of images: mirrored or not; moved by up to so many
            pixels; a square of so many pixels blanked.

    Example:
        >>> from klom_bench import Recipe
        >>> Recipe(epochs=5, batch_size=32, lr=0.1).as_json()
        {'epochs': 5, 'batch_size': 32, 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.0005}
    """

    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    weight_decay: float = 5e-4
    peak_epoch: int = 0
    label_smoothing: float = 0.0
    undecayed_norm: bool = False
    mixed_precision: bool = False
    flip: bool = False
    translate: int = 0
    cutout: int = 0

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of a step (from 0), of so many steps in all."""
        if not self.peak_epoch:
            return self.lr
        epoch = step * self.epochs / steps
        return self.lr * float(np.interp(epoch, [0, self.peak_epoch, self.epochs], [0, 1, 0]))

    def as_json(self) -> dict[str, Any]:
        """What is switched on."""
        return {name: value for name, value in asdict(self).items() if value}


def train(model: Ensemble, points: Points, recipe: Recipe) -> Iterator[None]:
    """Train all members by the recipe.

    Args:
        model: an `Ensemble`, changed in place.
        points: what its members see.
        recipe: how.

    Yields:
        Nothing, after every epoch; a method that trains afresh passes it on with `yield from`.

    Example:
        >>> from klom_bench import train
        >>> def retrain(model, forget, retain, *, task):
        ...     model.load_states(model.fresh_states())
        ...     yield from train(model, retain, task.recipe)
    """
    # The fused kernel would make a member depend on how it is packed (measured).
    optimizer = SGD(
        decay_groups(model, recipe), lr=recipe.lr, momentum=recipe.momentum, fused=False
    )
    batches = max(1, len(points) // recipe.batch_size)
    step, steps = 0, recipe.epochs * batches
    mixed = recipe.mixed_precision and model.device.type == "cuda"
    model.train()
    for _ in range(recipe.epochs):
        for x, y in points.batches(recipe.batch_size, drop_last=True):
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(step, steps)
            optimizer.zero_grad()
            x = augmented(x, points.generators, recipe.flip, recipe.translate, recipe.cutout)
            with torch.autocast(model.device.type, torch.bfloat16, enabled=mixed):
                logits = model(x)
            cross_entropy(logits.float(), y, recipe.label_smoothing).backward()
            optimizer.step()
            step += 1
        yield


def decay_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Parameters by weight decay: none for norm layers where the recipe says so."""
    norms = {
        id(p): p
        for module in model.modules()
        if recipe.undecayed_norm and isinstance(module, _NormBase | nn.LayerNorm | nn.GroupNorm)
        for p in module.parameters()
    }
    others = [p for p in model.parameters() if id(p) not in norms]
    groups = [{"params": others, "weight_decay": recipe.weight_decay}]
    return groups + ([{"params": list(norms.values()), "weight_decay": 0.0}] if norms else [])
