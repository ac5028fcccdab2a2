"""A task that is not trained here, and checkpoints of it as a pipeline leaves them."""

from functools import cache

import numpy as np
import torch
from helpers.nets import Net, load
from torch import nn

from klom_bench.files.patterns import find
from klom_bench.store.importing import import_members
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task

CPU = torch.device("cpu")


def brought(**changes):
    return Task(
        **{
            "name": "brought",
            "architecture": Net,
            "load": load,
            "forget_sets": {"first_ten": lambda: np.arange(10)},
            **changes,
        }
    )


def originals(task=None):
    return EnsembleId(task or brought(), "original", 0)


def oracles(task=None):
    task = task or brought()
    return EnsembleId(task, "oracle", 0, task.forget_set("first_ten"))


@cache
def state(seed):
    """The weights of a model that was trained on all points, by a loop as anybody writes it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, data = Net(), load()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for rows in torch.randperm(180).split(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.x_train[rows]), data.y_train[rows]).backward()
            optimizer.step()
    return model.state_dict()


def checkpoints(folder, numbers, content=state, name="run_{}/model.pt"):
    """Files of models whose weights are those of a seed, which is their number."""
    for i in numbers:
        path = folder / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content(i), path)
    return folder


def bring(root, ensemble, folder, pattern=None):
    return import_members(Store(root, "error"), ensemble, find(folder, pattern), CPU)


def files_in(root):
    """Everything that a store holds, but for what is of a moment."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".importing" not in path.parts
    }
