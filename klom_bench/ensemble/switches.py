"""What all methods that descend or ascend gradients have in common, and how to switch it."""

import functools
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.per_member import per_member
from klom_bench.errors import KlomError

Method = Callable[..., Iterator[Any]]


@dataclass(frozen=True)
class Switches:
    """Hyperparameters that every gradient method has beside its own.

    optimizer: the kind; `adam` passes over momentum. schedule: how the learning rate falls over the
    epochs: lr (1 - t / epochs) or lr (1 + cos(π t / epochs)) / 2 in epoch t = 0, 1, ...
    max_norm: each member's gradient is scaled down to this norm before a step; 0: as it is.
    freeze_batchnorm: norm layers use and keep the original's running statistics.
    """

    optimizer: Literal["sgd", "adam"] = "sgd"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    max_norm: float = 0.0
    freeze_batchnorm: bool = False

    def __post_init__(self) -> None:
        if not self.max_norm >= 0:
            raise KlomError(f"max_norm must be a norm, or 0 for none; got {self.max_norm}")

    def share_of_lr(self, t: int, epochs: int) -> float:
        """By how much the learning rate is multiplied in epoch t."""
        if self.schedule == "linear":
            return 1 - t / epochs
        return (1 + math.cos(math.pi * t / epochs)) / 2 if self.schedule == "cosine" else 1.0


NAMES = tuple(field.name for field in fields(Switches))


def gradient_method(without: tuple[str, ...] = (), **own: Any) -> Callable[[Method], Method]:
    """Give a method the switches as hyperparameters; `own` are its defaults where they differ.

    without: those that mean nothing to it.

    They act where it makes its optimizer with `optimizer_for` and its epochs with `scheduled`;
    KlomError where a switch was set and did not act.
    Inside another gradient method the switches of the outer one hold.
    """

    def decorate(function: Method) -> Method:
        @functools.wraps(function)
        def method(model: Ensemble, forget: Any, retain: Any, **given: Any) -> Iterator[Any]:
            switches = Switches(**own | {n: given.pop(n) for n in NAMES if n in given})
            if model.switches is not None:
                yield from function(model, forget, retain, **given)
                return
            model.switches = switches
            hook = model.register_forward_pre_hook(_freeze) if switches.freeze_batchnorm else None
            model.heeded = {"freeze_batchnorm"}
            try:
                for result in function(model, forget, retain, **given):
                    _refuse_unheeded(function.__name__, switches, own, model.heeded)
                    yield result
            finally:
                model.switches = None
                if hook:
                    hook.remove()

        signature = inspect.signature(function)
        keyword = inspect.Parameter.KEYWORD_ONLY
        extra = [
            inspect.Parameter(
                f.name, keyword, default=own.get(f.name, f.default), annotation=f.type
            )
            for f in fields(Switches)
            if f.name not in without
        ]
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), *extra]
        )
        return method

    return decorate


def _refuse_unheeded(name: str, switches: Switches, own: dict[str, Any], heeded: set[str]) -> None:
    usual = Switches(**own)
    for switch in sorted({*NAMES} - heeded):
        if getattr(switches, switch) != getattr(usual, switch):
            where = (
                "epochs with `scheduled`"
                if switch == "schedule"
                else "optimizer with `optimizer_for`"
            )
            raise KlomError(
                f"{name}: {switch} = {getattr(switches, switch)!r} has no effect, since it does "
                f"not make its {where} (klom_bench.ensemble.switches)"
            )


def _freeze(model: nn.Module, _: Any) -> None:
    for module in model.modules():
        if isinstance(module, _NormBase):
            module.eval()


def optimizer_for(
    model: Ensemble, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """The optimizer of a gradient method, over all parameters of an ensemble."""
    switches = model.switches or Switches()
    model.heeded |= {"optimizer", "max_norm"}
    optimizer: torch.optim.Optimizer
    if switches.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
        )
    if switches.max_norm:
        optimizer.register_step_pre_hook(lambda *_: clip_gradients(model, switches.max_norm))
    return optimizer


def scheduled(model: Ensemble, optimizer: torch.optim.Optimizer, epochs: int) -> Iterator[int]:
    """Epochs 0, 1, ..., with the learning rate of each as the schedule has it."""
    model.heeded |= {"schedule"}
    share = functools.partial((model.switches or Switches()).share_of_lr, epochs=epochs)
    for t in range(epochs):
        yield t
        for group in optimizer.param_groups:
            group["lr"] *= share(t + 1) / share(t) if t + 1 < epochs else 1.0


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale each member's gradient down to this norm where it is longer."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (max_norm / norms).clamp(max=1.0)
    for g in gradients:
        g.mul_(per_member(scale, g))
