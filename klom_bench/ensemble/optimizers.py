"""torch's optimizers without torch's compiler, whose import takes almost as long as that of torch.

For the sake of `torch.compile`, `torch.optim` wraps what an optimizer does, and each wrapper
imports the compiler (1.9 s of every process; torch itself 2.3; measured). Nothing is compiled here,
so these call what is wrapped. The arithmetic is torch's own.
"""

from collections.abc import Callable
from inspect import unwrap
from typing import Any

import torch
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


class Adam(_Uncompiled, torch.optim.Adam):
    """`torch.optim.Adam`, number for number."""

    _step = unwrap(torch.optim.Adam.step)


class AdamW(_Uncompiled, torch.optim.AdamW):
    """`torch.optim.AdamW`, number for number."""

    _step = unwrap(torch.optim.AdamW.step)
