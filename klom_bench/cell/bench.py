"""What the cells of a run share, and from methods with their settings to cells.

The plugin, `klom_bench.run` and `klom tune` all make their cells here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch

from klom_bench.cell.cell import Cell
from klom_bench.cell.variants import Variant
from klom_bench.engine import HERE, Engine, device_here
from klom_bench.errors import KlomError
from klom_bench.folders import store_root
from klom_bench.forget_set import ForgetSet
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import Method
from klom_bench.metrics.estimators import Estimator, estimator_named
from klom_bench.published.find import find
from klom_bench.published.forget_sets import selected, stored
from klom_bench.published.hub import Hub
from klom_bench.store.store import Missing, Store, WhenStale
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task


@dataclass(frozen=True)
class Defaults:
    """Hyperparameters that take the place of a method's own defaults, and how they were found."""

    values: Mapping[str, Any]
    provenance: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Bench:
    """Everything that the cells of a run share.

    models, oracles: how many. epochs: after which to score; only the last if there are none. tuned:
    defaults of methods, in place of the task's. looks: as in `Cell`.
    """

    task: Task
    forget_sets: Mapping[str, ForgetSet]
    models: int
    oracles: int
    seed: int
    estimator: Estimator
    device: torch.device
    store: Store
    epochs: tuple[int, ...] = ()
    tuned: Mapping[str, Defaults] = field(default_factory=dict)
    looks: tuple[int, ...] = ()

    def hyperparameters(self, method: Method, variant: Variant) -> dict[str, Any]:
        """The method's defaults, the task's or tuned ones over them, what is given over all."""
        return self._filled(method, variant, self._defaults(method))

    def cell(self, method: Method, variant: Variant, forget_set: str) -> Cell:
        """One cell, with the hyperparameters of its variant."""
        defaults = self._defaults(method)
        values = self._filled(method, variant, defaults)
        others = [name for name, value in defaults.values.items() if values[name] != value]
        tuning = None
        if defaults.provenance and len(others) < len(defaults.values):
            tuning = {**defaults.provenance, "overridden": others}
        return self.cell_with(method, values, forget_set, variant.setting, tuning)

    def cell_with(
        self,
        method: Method,
        hyperparameters: Mapping[str, Any],
        forget_set: str,
        setting: str = "",
        tuning: Mapping[str, Any] | None = None,
    ) -> Cell:
        """One cell, with just these hyperparameters."""
        return Cell(
            task=self.task,
            method=method,
            hyperparameters=hyperparameters,
            variant=setting,
            epochs=self.epochs,
            tuning=tuning,
            forget_set=self.forget_sets[forget_set],
            members=self.models,
            oracles=self.oracles,
            seed=self.seed,
            estimator=self.estimator,
            device=self.device,
            looks=self.looks,
        )

    def _defaults(self, method: Method) -> Defaults:
        if method.name in self.tuned:
            return self.tuned[method.name]
        # A user's method that took the name of a built-in one has defaults of its own.
        if method is not BUILT_IN.get(method.name, method):
            return Defaults({})
        name = method.name
        return Defaults(self.task.hyperparameters.get(name, {}), self.task.tunings.get(name))

    def _filled(self, method: Method, variant: Variant, defaults: Defaults) -> dict[str, Any]:
        given = dict(variant.given)
        if self.epochs and type(method.hyperparameters.get("epochs")) is int:
            given.setdefault("epochs", self.epochs[-1])
        return method.values(given, defaults.values)


def bench_for(
    task: Task,
    forget_sets: Iterable[str],
    *,
    models: int,
    oracles: int,
    seed: int,
    estimator: str,
    device: str,
    store: Store,
    epochs: tuple[int, ...] = (),
    tuned: Mapping[str, Defaults] | None = None,
    looks: tuple[int, ...] = (),
) -> Bench:
    """The bench of what is named; KlomError for a name that is not known.

    forget_sets: names, numbers and ranges; all of the task and of the store where there are none.
    """
    task = stored(task, store.root, Hub.default() if store.missing == "download" else None)
    names = selected(forget_sets, tuple(task.forget_sets))
    try:
        return Bench(
            task=task,
            forget_sets={name: task.forget_set(name) for name in names},
            models=models,
            oracles=oracles,
            seed=seed,
            estimator=estimator_named(estimator),
            device=device_here(device, store.engine),
            store=store,
            epochs=epochs,
            tuned=tuned or {},
            looks=looks,
        )
    except ValueError as error:
        raise KlomError(str(error)) from error


def store_for(
    task: Task,
    named: Path | None,
    flag: str,
    missing: str | None = None,
    stale: str = "error",
    engine: Engine = HERE,
) -> Store:
    """The store in the folder that was named with this flag, or where it usually lies.

    missing: None for what is usual with the task.
    """
    root = store_root(named, flag)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KlomError(
            f"the store {root} cannot be made ({error.strerror}): choose another folder with {flag}"
        ) from error
    # Nothing is trained beside what others have published unless it is asked for.
    beside = find(root, EnsembleId(task, "original", 0)) is not None
    usual: Missing = "error" if task.published or beside else "train"
    return Store(root, cast(Missing, missing or usual), cast(WhenStale, stale), engine)
