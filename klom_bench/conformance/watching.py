"""What is watched of a small run: the inputs that models see, and what comes out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from klom_bench.ensemble.ensemble import Ensemble, State
from klom_bench.ensemble.inputs import tensors
from klom_bench.ensemble.points import Points

Gradients = dict[str, list[Tensor]]


class ThreeBatches(Points):
    """Points that come in three batches at least, the last one ragged, whatever is asked for."""

    def batches(
        self, batch_size: int, *, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""
        yield from super().batches(min(batch_size, len(self) // 3 + 1), drop_last=drop_last)


@dataclass(frozen=True)
class Outcome:
    """What a run made: margins [members, points], state dicts, epochs."""

    margins: np.ndarray
    states: Sequence[State]
    epochs: int


class Watch:
    """The inputs that models were given, as bytes that can be compared.

    Where they are several tensors, of the first of them (token ids, not their mask).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.inputs: set[bytes] = set()
        self.on = False

    def over(self, module: nn.Module) -> nn.Module:
        """Watch this module from now on."""
        module.register_forward_pre_hook(self._see, with_kwargs=True)
        return module

    def _see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for x in tensors((*args, kwargs)):
            if not isinstance(x, Tensor):
                continue
            # Inside vmap or grad a tensor has no values to look at; what is around has been seen.
            wrapped = torch._C._functorch.is_functorch_wrapped_tensor(x)
            ending = tuple(x.shape[x.ndim - len(self.shape) :])
            if self.on and not wrapped and ending == self.shape:
                self.inputs |= rows(x, self.shape)


def rows(x: Tensor, shape: Sequence[int]) -> set[bytes]:
    """The single inputs of a batch, as bytes that can be compared."""
    return {row.tobytes() for row in x.detach().cpu().reshape(-1, *shape).numpy()}


@contextmanager
def recorded(model: Ensemble, gradients: Gradients | None) -> Iterator[None]:
    """Keep the gradients [members, ...] of each parameter that optimizers step along.

    Where they are not kept, somebody listens all the same: steps are rounded as where they are.
    """
    names = {p: name for name, p in model.network.named_parameters()}

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if gradients is None:
            return
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p in names and p.grad is not None:
                gradients.setdefault(names[p], []).append(p.grad.detach().clone())

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()
