"""A network with what methods stumble over: BatchNorm, and a layer that cannot reset itself."""

from collections.abc import Callable

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


def probe(task: Task) -> Callable[[], nn.Module]:
    """The architecture, for inputs and classes of a task."""
    data = task.data
    inputs, classes = data.x_train[0].numel(), int(data.y().max()) + 1
    return lambda: nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, WIDTH),
        nn.BatchNorm1d(WIDTH),
        nn.ReLU(),
        Head(classes),
    )
