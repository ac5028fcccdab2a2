"""Hooks by which a conftest.py adds tasks and forget sets, and is handed records."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from klom_bench.cell.record import Record
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


def pytest_klom_record(config: pytest.Config, record: "Record") -> None:
    """Called with the record of each test, as soon as the test ends: to tell it elsewhere.

    Implement it in the conftest.py of the root folder (or a plugin): it is called in the process
    that reports, never in a worker of xdist, for tests of `klom.score`, too. Where gates are judged
    together (--klom-family=holm) it is called at the end of the run, with final verdicts. Per-point
    scores are not in it. What it raises ends nothing: it is shown at the end, and the run is red.

    def pytest_klom_record(record):
        excess = record.excess["forget"]  # there with five models a side
        with open("scores.csv", "a") as file:
            print(record.method, record.forget_set, excess.value, record.word, file=file, sep=",")
    """
