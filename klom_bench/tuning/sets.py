"""Forget sets to tune on: none of their points is in a set that is gated."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from klom_bench.ensemble.seeds import generator
from klom_bench.errors import KlomError
from klom_bench.methods.method import Method
from klom_bench.tasks.task import Task

SIZES = {"tuning_1": 50, "tuning_2": 50, "tuning_3": 100}


def tuning_task(task: Task, method: Method) -> Task:
    """The task with forget sets to tune on in place of its own.

    tuning_1 is drawn at random; tuning_2 and tuning_3 are the nearest neighbours of a point, since
    random sets are forgotten too easily. Methods that unlearn classes get three classes that are
    no forget set of the task.
    """
    own = [task.forget_set(name) for name in task.forget_sets]
    if method.class_wise_only:
        y = task.data.y_train.numpy()
        gated = {int(y[f.indices[0]]) for f in own if task.is_class(f)}
        classes = [c for c in range(int(y.max()) + 1) if c not in gated][:3]
        found = {f"tuning_class_{c}": np.flatnonzero(y == c) for c in classes}
    else:
        free = np.ones(task.train_points, dtype=bool)
        for forget_set in own:
            if not task.is_class(forget_set):
                free[forget_set.indices] = False
        found = _drawn(task, np.flatnonzero(free))
    return replace(task, forget_sets={n: partial(np.array, v) for n, v in found.items()})


def _drawn(task: Task, free: np.ndarray) -> dict[str, np.ndarray]:
    most = sum(SIZES.values())
    if len(free) < most:
        raise KlomError(
            f"{len(free)} train points of {task.name} are in no forget set, {most} are needed to "
            "tune on"
        )
    g = generator(task.name, "tuning")
    found: dict[str, np.ndarray] = {}
    for name, size in SIZES.items():
        order = free[torch.randperm(len(free), generator=g).numpy()]
        if found:
            order = free[_distances(task, free, int(order[0])).argsort(kind="stable")]
        found[name] = np.sort(order[:size])
        free = np.setdiff1d(free, found[name])
    return found


def _distances(task: Task, points: np.ndarray, anchor: int) -> np.ndarray:
    """Squared distances of the inputs of train points from that of another."""
    x, prepare = task.data.x_train, task.data.prepare
    centre = prepare(x[anchor : anchor + 1]).flatten(1)
    parts = torch.from_numpy(points).split(1024)
    found = torch.cat([(prepare(x[rows]).flatten(1) - centre).square().sum(1) for rows in parts])
    return np.asarray(found.cpu().numpy())
