"""What all methods that follow gradients have in common, and how to switch it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from klom_bench.ensemble.clipping import clip_gradients
from klom_bench.ensemble.optimizers import SGD, Adam
from klom_bench.errors import KlomError

Factor = Callable[[int, int], float]
SCHEDULES: dict[str, Factor] = {
    "constant": lambda t, epochs: 1.0,
    "linear": lambda t, epochs: 1 - t / epochs,
    "cosine": lambda t, epochs: (1 + math.cos(math.pi * t / epochs)) / 2,
    "ramp": lambda t, epochs: _ramp(t + 1, epochs, (epochs + 1) // 2),
}
"""By how much the learning rate is multiplied in epoch t = 0, 1, ... of so many."""


@dataclass(frozen=True)
class Descent:
    """How a method follows gradients.

    A method that takes `descent: Descent = Descent()`, keyword-only, has each field as a
    hyperparameter; its defaults are those of that Descent.

    Args:
        optimizer: the kind; `adam` passes over momentum.
        schedule: how the learning rate changes over the epochs (`SCHEDULES`); None: the method has
            no such hyperparameter.
        max_norm: each member's gradient is scaled down to this norm before a step; 0: as it is.
        freeze_batchnorm: norm layers use and keep the original's running statistics.

    Raises:
        KlomError: max_norm is negative.

    Example:
        >>> from klom_bench import Descent, cross_entropy
        >>> def ascend(model, forget, retain, *, lr=0.1, epochs=3, descent=Descent(max_norm=1.0)):
        ...     optimizer = descent.optimizer_for(model, lr)
        ...     for _ in descent.epochs(optimizer, epochs):
        ...         for x, y in forget.batches(64):
        ...             optimizer.zero_grad()
        ...             (-model.loss(x, y)).backward()
        ...             optimizer.step()
        ...         yield
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: Literal["constant", "linear", "cosine", "ramp"] | None = "constant"
    max_norm: float = 0.0
    freeze_batchnorm: bool = False

    def __post_init__(self) -> None:
        if not self.max_norm >= 0:
            raise KlomError(f"max_norm must be a norm, or 0 for none; got {self.max_norm}")

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Its fields, as far as they can be set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def optimizer_for(
        self, model: nn.Module, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
    ) -> torch.optim.Optimizer:
        """SGD as asked for, or what stands in for it."""
        optimizer: torch.optim.Optimizer
        if self.optimizer == "adam":
            optimizer = Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
        else:
            optimizer = SGD(model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)
        if self.max_norm:
            optimizer.register_step_pre_hook(lambda *_: clip_gradients(model, self.max_norm))
        return optimizer

    def epochs(self, optimizer: torch.optim.Optimizer, epochs: int) -> Iterator[int]:
        """Epochs 0, 1, ..., with the learning rate of each as the schedule has it."""
        share = SCHEDULES[self.schedule or "constant"]
        for t in range(epochs):
            if t == 0:
                for group in optimizer.param_groups:
                    group["lr"] *= share(0, epochs)
            yield t
            for group in optimizer.param_groups:
                group["lr"] *= share(t + 1, epochs) / share(t, epochs) if t + 1 < epochs else 1.0

    @contextmanager
    def norms_as_asked(self, model: nn.Module) -> Iterator[None]:
        """Norm layers in eval mode in every pass, if they are to be frozen."""
        hook = model.register_forward_pre_hook(_freeze) if self.freeze_batchnorm else None
        try:
            yield
        finally:
            if hook:
                hook.remove()


def _ramp(t: int, epochs: int, top: int) -> float:
    """Up to 1 in epoch `top` of 1 ... epochs, and down: 1/3, 2/3, 1, 2/3, 1/3 for five."""
    return min(t / top, (epochs + 1 - t) / (epochs + 1 - top))


NAMES = tuple(field.name for field in fields(Descent))
CHOICES = {"optimizer": ("sgd", "adam"), "schedule": tuple(SCHEDULES)}


def _freeze(model: nn.Module, _: Any) -> None:
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.eval()
