"""Training by a recipe: the usual loop."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from klom_bench.ensemble.by_hand import by_hand
from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.graph import graph_of, replayed
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.step import Step
from klom_bench.errors import KlomError, unknown

Optimizer = Literal["sgd", "adamw"]


@dataclass(frozen=True)
class Recipe:
    """How models are trained; the last, ragged batch of an epoch is dropped.

    Called with an ensemble and points it trains, as any function that a task is given as `train`.

    Args:
        epochs, batch_size, lr, momentum, weight_decay, label_smoothing: as in torch; AdamW passes
            over momentum.
        optimizer: SGD with momentum, or AdamW.
        peak_epoch: the learning rate rises from 0 to `lr` at this epoch, linearly, step by step,
            and falls to 0 at the end; 0: it is constant, unless `cosine` is said.
        cosine: from its peak the learning rate falls as half a cosine, not linearly.
        max_norm: each member's gradient is scaled down to this norm where it is longer; 0: as it
            is.
        class_weights: one a class; a batch's loss is the weighted mean.
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
    optimizer: Optimizer = "sgd"
    cosine: bool = False
    max_norm: float = 0.0
    class_weights: tuple[float, ...] = ()
    flip: bool = False
    translate: int = 0
    cutout: int = 0

    def lr_at(self, step: int, steps: int) -> float:
        """Learning rate of a step (from 0), of so many steps in all."""
        epoch = step * self.epochs / steps
        if self.cosine and epoch >= self.peak_epoch:
            left = (epoch - self.peak_epoch) / (self.epochs - self.peak_epoch)
            return self.lr * (1 + math.cos(math.pi * left)) / 2
        if not self.peak_epoch:
            return self.lr
        return self.lr * float(np.interp(epoch, [0, self.peak_epoch, self.epochs], [0, 1, 0]))

    def as_json(self) -> dict[str, Any]:
        """What is switched on, beside the optimizer that is usual."""
        return {name: v for name, v in asdict(self).items() if v and v != "sgd"}

    def __call__(self, model: Ensemble, points: Points) -> Iterator[None]:
        """Train all members, as `train` does."""
        return train(model, points, self)

    def __post_init__(self) -> None:
        if self.optimizer not in get_args(Optimizer):
            raise KlomError(unknown("optimizer", self.optimizer, get_args(Optimizer)))
        if not 0 <= self.peak_epoch < max(1, self.epochs):
            raise KlomError(f"peak_epoch {self.peak_epoch} is not before the end, {self.epochs}")
        if not all(0 <= w < math.inf for w in self.class_weights):
            raise KlomError(f"class_weights {self.class_weights} are not all numbers from 0 on")
        if self.label_smoothing and self.class_weights:
            raise KlomError("a recipe has label_smoothing or class_weights, not both")
        object.__setattr__(self, "class_weights", tuple(self.class_weights))


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
    step, graph = Step(model, points, recipe), None
    plain, (done, steps) = by_hand(step) or step, (0, recipe.epochs * step.batches)
    model.train()
    for epoch in range(recipe.epochs):
        every = step.epoch()
        first = next(every)
        if epoch == 0 and (graph := graph_of(step, *first, steps)):
            graph.rest()
        with replayed(model, graph) if graph else nullcontext(plain) as take:
            for rows, drawn in chain([first], every):
                take(rows, drawn, recipe.lr_at(done, steps))
                done += 1
        yield
