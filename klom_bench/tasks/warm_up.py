"""What is done once in a process is done before a clock runs."""

import importlib
from functools import lru_cache

import torch

from klom_bench.ensemble.device import finish
from klom_bench.ensemble.ensemble import initial_state
from klom_bench.ensemble.inputs import each
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
    state = initial_state(task.architecture, 0)
    model = task.ensemble([state] * members).to(device).train()
    x, y = task.data_on(device).first(task.training.batch_size)
    many = each(lambda t: t.expand(members, *t.shape).contiguous(), x)
    task.outputs.mean_loss(model(many).float(), y.expand(members, *y.shape)).backward()
    SGD(model.parameters()).step()
    finish(device)


def import_compiler() -> None:
    """What the first optimizer of `torch.optim` imports, if a method brings its own."""
    with kept():
        importlib.import_module("torch._dynamo")
