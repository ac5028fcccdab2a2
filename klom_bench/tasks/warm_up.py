"""What is done once in a process is done before a clock runs."""

import importlib
from functools import lru_cache

import torch

from klom_bench.ensemble.device import finish
from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.optimizers import SGD
from klom_bench.imports import kept
from klom_bench.tasks.task import Task


@lru_cache(maxsize=16)
def warm_up(task: Task, members: int, device: torch.device) -> None:
    """Take one step of training with so many members, and throw it away; once a process.

    Libraries and kernels of a GPU are loaded and the fastest of them looked for. No stream of a
    member is touched.
    """
    if device.type == "cpu":
        return
    data, count = task.data_on(device), min(task.recipe.batch_size, task.train_points)
    state = initial_state(task.architecture, 0)
    model = Ensemble(task.architecture, [state] * members).to(device).train()
    x, y = data.prepare(data.x_train[:count]), data.y_train[:count]
    many = x.expand(members, *x.shape).contiguous()
    cross_entropy(model(many).float(), y.expand(members, -1)).backward()
    SGD(model.parameters()).step()
    finish(device)


def import_compiler() -> None:
    """What the first optimizer of `torch.optim` imports, if a method brings its own."""
    with kept():
        importlib.import_module("torch._dynamo")
