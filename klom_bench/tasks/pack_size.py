"""How many members are computed together."""

import math

import torch

from klom_bench.ensemble.stacked import LARGE
from klom_bench.tasks.task import Task

TOGETHER = 2**24
"""Parameters of members that are computed together on a GPU."""
MOST = 500
"""Members: what a layer makes of a batch is held for each of them."""


def pack_on(task: Task, device: torch.device) -> int:
    """The task's packs, or as many of them as a GPU takes at once.

    A step of 100 small models takes as many operations as one of 25 (44 for `digits`, counted), and
    the host needs longer to begin them than a GPU to do them. Large models fill it one by one.
    """
    if device.type == "cpu":
        return task.pack
    parameters = sum(math.prod(shape) for shape in task.shapes.values())
    if parameters >= LARGE or not task.way[0].stacked:
        return task.pack
    members = min(MOST, TOGETHER // parameters)
    return max(1, members // task.pack) * task.pack
