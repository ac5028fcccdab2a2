"""A network with what methods stumble over: BatchNorm, and a layer that cannot reset itself."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

from klom_bench.tasks.task import Task

WIDTH = 24


class Head(nn.Module):
    """A linear layer with a scale of its own, which has no `reset_parameters`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, classes)
        self.scale = nn.Parameter(torch.rand(classes) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        z: Tensor = self.linear(x) * self.scale
        return z


class AsFloat(nn.Module):
    """Whole numbers, as of tokens, as inputs of a linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, features]."""
        return x.flatten(1).float()


@lru_cache(maxsize=2)
def probe(task: Task) -> Callable[[], nn.Module]:
    """The architecture, for inputs and classes of a task, three at least (see `third_class`)."""
    data = task.data
    inputs = data.first(1)[0].numel()
    classes = max(data.classes, 3)
    return lambda: nn.Sequential(
        AsFloat(),
        nn.Linear(inputs, WIDTH),
        nn.BatchNorm1d(WIDTH),
        nn.ReLU(),
        Head(classes),
    )
