"""What a GPU does once in a process is done before a clock runs."""

from functools import lru_cache

import torch

from klom_bench.ensemble.device import finish
from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.imports import kept
from klom_bench.tasks.task import Task


@lru_cache(maxsize=16)
def warm_up(task: Task, members: int, device: torch.device) -> None:
    """Take one step of training with so many members, and throw it away; once a process.

    On a GPU, libraries and kernels are loaded and the fastest of them looked for; anywhere, the
    first optimizer of a process imports the compiler of torch. No stream of a member is touched.
    """
    parameters = [torch.zeros(1, requires_grad=True)]
    if device.type != "cpu":
        data, count = task.data_on(device), min(task.recipe.batch_size, task.train_points)
        state = initial_state(task.architecture, 0)
        model = Ensemble(task.architecture, [state] * members).to(device).train()
        x, y = data.prepare(data.x_train[:count]), data.y_train[:count]
        many = x.expand(members, *x.shape).contiguous()
        cross_entropy(model(many).float(), y.expand(members, -1)).backward()
        parameters = list(model.parameters())
    with kept():
        torch.optim.SGD(parameters).step()
    finish(device)
