"""Hooks by which a conftest.py adds tasks and forget sets."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from klom_bench.tasks.task import Task


def pytest_klom_tasks(config: pytest.Config) -> "Iterable[Task]":  # type: ignore[empty-body]
    """Tasks beside the built-in ones; one of the same name takes its place.

    Implement it in the conftest.py of the root folder (or a plugin): it is asked before collection.
    `klom` does not see it: tasks that [tool.klom] names are seen by both.

    def pytest_klom_tasks(config):
        import torch
        from klom_bench import Data, Recipe, Task, mlp

        def load():  # inputs [n, ...] and int64 labels [n]
            x, y = torch.randn(300, 20, generator=torch.Generator()), torch.arange(300) % 3
            x[range(300), y] += 3
            return Data(x[:200], y[:200], x[200:], y[200:])

        task = Task(
            name="blobs",
            architecture=lambda: mlp(20, 16, 3),
            load=load,
            forget_sets={"first_ten": lambda: range(10)},  # name -> function that gives the indices
            train=Recipe(epochs=5, batch_size=32, lr=0.1),
        )
        return [task]
    """


def pytest_klom_forget_sets(  # type: ignore[empty-body]
    config: pytest.Config, task: "Task"
) -> Mapping[str, Any]:
    """Forget sets of a task beside its own: name -> indices into its train points.

    def pytest_klom_forget_sets(config, task):
        if task.name == "digits":
            return {"sevens": [1, 5, 9]}
    """
