"""A task of a few of a task's points, and originals that are trained on it once."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from klom_bench.cell.loading import already_read, logits_of
from klom_bench.conformance.watching import Outcome
from klom_bench.ensemble.ensemble import State
from klom_bench.ensemble.inputs import each
from klom_bench.ensemble.seeds import generator
from klom_bench.ensemble.threads import side_by_side
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.store.training import train_pack
from klom_bench.tasks.data import Data
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task

MEMBERS = [0, 1, 2]
RETAIN, VAL = 115, 32
LARGEST_FORGET, TRIED = 100, 13
"""Forget points: as many as the task's largest set has; so many of them are tried one by one."""
FEWEST = 40

T = TypeVar("T")

STAND_IN = Recipe(epochs=10, batch_size=32, lr=3e-3, optimizer="adamw")
"""Trains the models that methods are examined with where the task's come from elsewhere."""


def forget_count(task: Task, class_wise: bool) -> int:
    """Points of the small forget set: a set that is cut would otherwise look whole."""
    if task.train_points < FEWEST:
        raise KlomError(
            f"{task.name} has {task.train_points} train points: conformance needs {FEWEST}"
        )
    most = task.train_points // (2 if is_noisy(task) else 3)
    largest = max((task.size(name) for name in task.forget_sets), default=0)
    if class_wise:
        largest = int(task.data.y_train.bincount().max())
    return min(max(largest, TRIED), LARGEST_FORGET, most)


def small_task(
    task: Task, architecture: Callable[[], nn.Module], class_wise: bool, third_class: bool
) -> Task:
    """Some points of a task, and a spare for every forget point.

    A spare has the label of its forget point, and noise in the range of the data as its input;
    where inputs are several tensors, that of another point. Spares are train points that belong to
    no set, unless they take a place. third_class: every third point is of a class that the task has
    not.
    """
    whole, n = task.data, forget_count(task, class_wise)
    g = generator("conformance", task.name)
    train = torch.randperm(len(whole.y_train), generator=g)
    if class_wise:
        inside = whole.y_train[train] == whole.y_train.mode().values
        train = torch.cat([train[inside][:n], train[~inside][:RETAIN]])
        forget = torch.arange(n)
    else:
        others = 0 if is_noisy(task) else n
        train, left = train[: min(n + RETAIN, len(train) - others)], train[-n:]
        forget = torch.linspace(0, len(train) - 1, n).long()
    val = torch.randperm(len(whole.y_val), generator=g)[:VAL]
    x, y = whole.seen(whole.x_train, train), whole.y_train[train]
    if third_class:
        y = torch.where(torch.arange(len(y)) % 3 == 2, y.max() + 1, y)
    spares = _noise(x, n, g) if is_noisy(task) else whole.seen(whole.x_train, left)
    data = Data(
        each(lambda a, b: torch.cat([a, b]), x, spares),
        torch.cat([y, y[forget]]),
        whole.seen(whole.x_val, val),
        whole.y_val[val],
    )
    return replace(
        task,
        architecture=architecture,
        load=lambda: data,
        train=task.train or STAND_IN,
        start=None,
        published=None,
        forget_sets={
            "conformance": lambda: forget.numpy(),
            "spares": lambda: np.arange(len(train), len(data.y_train)),
        },
    )


def is_noisy(task: Task) -> bool:
    """Whether noise is an input like another: of a mask beside tokens it is not."""
    return isinstance(task.data.first(1)[0], torch.Tensor)


def _noise(x: torch.Tensor, n: int, g: torch.Generator) -> torch.Tensor:
    low, high = x.amin(0), x.amax(0)
    noise = torch.rand((n, *low.shape), generator=g)
    whole_numbers = not x.is_floating_point()
    return low + ((high - low + whole_numbers) * noise).to(x.dtype)


@lru_cache(maxsize=2)
def originals_of(
    task: Task,
    architecture: Callable[[], nn.Module],
    class_wise: bool,
    third_class: bool,
    device: torch.device,
) -> Outcome:
    """Originals of the small task, which are the same for all methods: trained once a process."""
    small = small_task(task, architecture, class_wise, third_class)
    without = EnsembleId(small, "oracle", 0, small.forget_set("spares"))
    states = trained(without, MEMBERS, device)
    z = logits_of(small, already_read(states), len(states), device)
    found = small.outputs.margins(z, small.data.y().cpu()).numpy()
    return Outcome(found, states, 0)


def trained(ensemble: EnsembleId, members: list[int], device: torch.device) -> list[State]:
    """State dicts of members, trained together."""
    return alone(
        lambda: [t.state for t in train_pack(ensemble, members, device, _nothing, _nothing)], device
    )


def alone(work: Callable[[], T], device: torch.device) -> T:
    """As the harness does it: in a thread that computes with one core."""
    (result,) = side_by_side(lambda _: work(), 1, device)
    return result


def _nothing(*_: Any) -> None:
    pass
