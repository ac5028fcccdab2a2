"""torch's optimizers without torch's compiler, whose import takes almost as long as that of torch.

For the sake of `torch.compile`, `torch.optim` wraps what an optimizer does, and each wrapper
imports the compiler (1.9 s of every process; torch itself 2.3; measured). Nothing is compiled here,
so these call what is wrapped. The arithmetic is torch's own.
"""

from collections.abc import Callable, Mapping, Sequence
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class _Uncompiled:
    """What torch wraps for its compiler, as it is without: before one of its optimizers."""

    add_param_group = unwrap(Optimizer.add_param_group)
    zero_grad = unwrap(Optimizer.zero_grad)
    _step: Callable[..., Any]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; closure as in torch."""
        return self._step(closure)


class SGD(_Uncompiled, torch.optim.SGD):
    """`torch.optim.SGD`, number for number."""

    _step = unwrap(torch.optim.SGD.step)


class ForeachSGD:
    """SGD in a few operations for all parameters, with a learning rate that may be a tensor.

    groups: as torch has them, with `params` and `weight_decay`.
    """

    def __init__(self, groups: Sequence[Mapping[str, Any]], momentum: float) -> None:
        self._momentum = momentum
        self._groups = [
            (of["params"], [torch.zeros_like(p) for p in of["params"]], of["weight_decay"])
            for of in groups
        ]

    def rest(self) -> None:
        """As before the first step."""
        for _, moving, _ in self._groups:
            torch._foreach_zero_(moving)

    @torch.no_grad()
    def __call__(self, lr: float | Tensor) -> None:
        """v ← μ v + g + λ θ, θ ← θ - η v."""
        for params, moving, decay in self._groups:
            gradients = [p.grad for p in params]
            if decay:
                torch._foreach_add_(gradients, params, alpha=decay)
            torch._foreach_mul_(moving, self._momentum)
            torch._foreach_add_(moving, gradients)
            torch._foreach_sub_(params, torch._foreach_mul(moving, lr))


class Adam(_Uncompiled, torch.optim.Adam):
    """`torch.optim.Adam`, number for number."""

    _step = unwrap(torch.optim.Adam.step)


class AdamW(_Uncompiled, torch.optim.AdamW):
    """`torch.optim.AdamW`, number for number."""

    _step = unwrap(torch.optim.AdamW.step)
