"""Real models: a pool of originals and oracles, and what methods make of all its originals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from klom_bench.cell.cell import Cell
from klom_bench.cell.clock import Clock
from klom_bench.cell.loading import load
from klom_bench.cell.rounds import Unlearned
from klom_bench.literals import literal
from klom_bench.methods import BUILT_IN
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.progress import silent
from klom_bench.store.store import Store
from klom_bench.tasks import Task


@dataclass(frozen=True)
class Pool:
    """Margins [models, points] of oracles, and of unlearned models of every method; row i of each
    method is made from original i, and `do_nothing` are the originals. splits: the columns."""

    oracles: np.ndarray
    methods: dict[str, np.ndarray]
    splits: dict[str, np.ndarray]


Asked = tuple[Path, Task, str, int, int, int]
"""Store, task, forget set, originals, oracles, seed."""


def fill(run: Callable[..., list[Any]], asked: Asked, methods: Sequence[str]) -> Pool:
    """Found in a store, or trained into it by all workers together; methods are run anew."""
    made = run(unlearned, [(*asked, method) for method in methods])
    _, originals, oracles, splits = made[0]
    of_each = {name: found[0] for name, found in zip(methods, made, strict=True)}
    return Pool(oracles, {"do_nothing": originals, **of_each}, splits)


def unlearned(
    store: Path, task: Task, forget_set: str, originals: int, oracles: int, seed: int, method: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Margins of unlearned models, originals and oracles, and the splits.

    method: with tuned hyperparameters, but for those that are given, as `ga lr=0.04`.
    """
    name, *given = method.split()
    found = BUILT_IN[name]
    values = {word: literal(value) for word, _, value in (part.partition("=") for part in given)}
    cell = Cell(
        task=task,
        method=found,
        hyperparameters=found.values(values, task.hyperparameters.get(name, {})),
        forget_set=task.forget_set(forget_set),
        members=originals,
        oracles=oracles,
        seed=seed,
        estimator=ESTIMATORS["default"],
        device=torch.device("cpu"),
    )
    models = load(cell, Store(store), silent)
    unlearned = Unlearned(cell)
    unlearned.more(models, Clock(), silent)
    after = unlearned.epochs
    # Copies: scratch memory may lie in files, which do not travel.
    margins = (after[max(after)].margins, models.originals.margins, models.margins)
    made, before, held = (np.array(m) for m in margins)
    return made, before, held, cell.splits
