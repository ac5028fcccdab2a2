"""One step of training by a recipe."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from klom_bench.ensemble.augmentation import Augmentation
from klom_bench.ensemble.clipping import clip_gradients
from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.optimizers import SGD, AdamW, ForeachSGD
from klom_bench.ensemble.points import Points

if TYPE_CHECKING:
    from klom_bench.ensemble.training import Recipe

Update = Callable[[Any], None]
"""Moves parameters by their gradients, at a learning rate."""


class Step:
    """θ ← θ after one step of the recipe, in place.

    On a GPU it reads nothing but its arguments, which are tensors there, and what lies still.
    """

    def __init__(self, model: Ensemble, points: Points, recipe: "Recipe") -> None:
        self.model, self.points, self.recipe = model, points, recipe
        self.changes = Augmentation(recipe.flip, recipe.translate, recipe.cutout)
        self.mixed = recipe.mixed_precision and model.device.type == "cuda"
        self.update = update_of(recipe, model)

    @property
    def batches(self) -> int:
        """How many an epoch has: a last, ragged one is dropped."""
        return max(1, len(self.points) // self.recipe.batch_size)

    def epoch(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The rows of each batch of an epoch, and what augmentation draws for it: all at once, but
        where passes draw from the same streams in between."""
        points, draws = self.points, self.model.draws
        drawn: Iterator[Tensor] = iter(())
        for i, rows in enumerate(points.rows(self.recipe.batch_size, drop_last=True)):
            if not self.changes:
                yield rows, None
                continue
            if i == 0 or draws:
                some, _ = points.at(rows[:, :1])
                ahead = 1 if draws else self.batches
                drawn = self.changes.of_batches(points.generators, ahead, rows.shape[1], some)
            yield rows, next(drawn)

    def __call__(self, rows: Tensor, drawn: Tensor | None, lr: Any) -> None:
        """rows: numbers of train points [M, B]. drawn: of augmentation. lr: a learning rate."""
        model = self.model
        x, y = self.points.at(rows)
        if drawn is not None:
            x = self.changes.changed(x, drawn)
        for p in model.parameters():
            p.grad = None
        with torch.autocast(model.device.type, torch.bfloat16, enabled=self.mixed):
            z = model(x)
        loss_of(self.recipe, model, z.float(), y).backward()
        for p in model.parameters():
            if p.grad is None:  # as of a layer that was left out: else packs would differ
                p.grad = torch.zeros_like(p)
        if self.recipe.max_norm:
            clip_gradients(model, self.recipe.max_norm)
        self.update(lr)


def update_of(recipe: "Recipe", model: Ensemble) -> Update:
    """SGD or AdamW, as the recipe says."""
    groups = decay_groups(model, recipe)
    if recipe.optimizer == "sgd" and model.device.type == "cuda":
        return ForeachSGD(groups, recipe.momentum)
    optimizer: torch.optim.Optimizer
    # Fused kernels would make a member depend on how it is packed (measured).
    if recipe.optimizer == "adamw":
        optimizer = AdamW(groups, lr=recipe.lr, fused=False)
    else:
        optimizer = SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=False)

    def update(lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()

    return update


def loss_of(recipe: "Recipe", model: Ensemble, z: Tensor, y: Tensor) -> Tensor:
    """The mean over a batch, summed over members."""
    if recipe.class_weights:
        w = _on(z.device, z.dtype, recipe.class_weights)[y]
        least = torch.finfo(w.dtype).tiny  # of a batch that has only classes of no weight
        return ((w * model.outputs.losses(z, y)).sum(1) / w.sum(1).clamp(min=least)).sum()
    if recipe.label_smoothing:
        return cross_entropy(z, y, recipe.label_smoothing)
    return model.outputs.mean_loss(z, y)


@lru_cache(maxsize=16)  # what is sent anew is waited for
def _on(device: torch.device, dtype: torch.dtype, numbers: tuple[float, ...]) -> Tensor:
    return torch.tensor(numbers, dtype=dtype, device=device)


def decay_groups(model: nn.Module, recipe: "Recipe") -> list[dict[str, Any]]:
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
