"""Forget sets to tune on, apart from those that are gated."""

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from klom_bench.ensemble.inputs import tensors
from klom_bench.ensemble.seeds import generator
from klom_bench.errors import KlomError
from klom_bench.methods.method import Method
from klom_bench.tasks.task import Task

CLASS = "tuning_class_"
SIZES = {"tuning_1": 50, "tuning_2": 50, "tuning_3": 100}


def tuning_task(task: Task, method: Method) -> Task:
    """The task with forget sets to tune on in place of its own.

    None of their points is in any forget set of the task. tuning_1 is drawn at random; tuning_2 and
    tuning_3 are the nearest neighbours of a point, since random sets are forgotten too easily.
    Methods that unlearn classes get three classes that are no forget set of the task; these share
    points with sets that are no classes.
    """
    names = [*SIZES]
    if method.traits.class_wise:
        own = [task.forget_set(name) for name in task.forget_sets]
        y = task.data.y_train.numpy()
        gated = {int(y[f.indices[0]]) for f in own if task.is_class(f)}
        classes = [c for c in range(task.data.classes) if c not in gated][:3]
        names = [f"{CLASS}{c}" for c in classes]
    return replace(task, forget_sets={name: partial(_indices, task, name) for name in names})


def with_tuning_sets(task: Task) -> Task:
    """The task with its own sets and all that it may be tuned on."""
    classes = range(task.classes if task.outputs.classes else 0)
    names = [*SIZES, *(f"{CLASS}{c}" for c in classes)]
    more = {name: partial(_indices, task, name) for name in names}
    return replace(task, forget_sets={**task.forget_sets, **more})


def _indices(task: Task, name: str) -> np.ndarray:
    if name.startswith(CLASS):
        return np.flatnonzero(task.data.y_train.numpy() == int(name.removeprefix(CLASS)))
    free = np.ones(task.train_points, dtype=bool)
    for own in task.forget_sets:
        free[task.forget_set(own).indices] = False
    return _drawn(task, np.flatnonzero(free))[name]


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

    def flat(rows: torch.Tensor) -> torch.Tensor:
        seen = task.data.seen(task.data.x_train, rows)
        return torch.cat([t.flatten(1).float() for t in tensors(seen)], 1)

    centre = flat(torch.tensor([anchor]))
    parts = torch.from_numpy(points).split(1024)
    found = torch.cat([(flat(rows) - centre).square().sum(1) for rows in parts])
    return np.asarray(found.cpu().numpy())
