"""A run: the options, resolved to things that exist. Imports torch; only when asked to."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from klom_bench import methods
from klom_bench.cell.baseline import Baseline, Regression, checked_regression, load
from klom_bench.cell.cell import Cell
from klom_bench.cell.gates import CONFIDENT, checked_limits, checked_table, limits_for
from klom_bench.cell.limits import Limits
from klom_bench.cell.record_json import asked
from klom_bench.ensemble.device import device_named
from klom_bench.errors import KlomError, unknown
from klom_bench.folders import store_root
from klom_bench.forget_set import ForgetSet
from klom_bench.found import Methods, Tasks, methods_from, tasks_from
from klom_bench.methods.method import Method
from klom_bench.metrics.estimate import CONFIDENCE
from klom_bench.metrics.estimators import Estimator, estimator_named
from klom_bench.plugin.options import Options
from klom_bench.plugin.variants import Variant, variants
from klom_bench.published.find import find
from klom_bench.published.forget_sets import selected, stored
from klom_bench.published.hub import Hub
from klom_bench.pyproject import klom_table
from klom_bench.store.store import Missing, Store, WhenStale
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task
from klom_bench.tuning.trials import Tuning
from klom_bench.tuning.trials import load as load_tuning


@dataclass(frozen=True)
class Run:
    """Everything that the cells of a run share."""

    options: Options
    methods: tuple[str, ...]
    variants: Mapping[str, Variant]
    tunings: Mapping[str, Tuning]
    task: Task
    forget_sets: Mapping[str, ForgetSet]
    estimator: Estimator
    device: torch.device
    store: Store
    gates: Mapping[str, Any]
    gates_file: Path | None
    known_tasks: Tasks
    known_methods: Methods
    baseline: Baseline | None
    regressions: Mapping[str, Regression]

    def hyperparameters(self, method: Method, variant: Variant) -> dict[str, Any]:
        """Those of a test: the method's defaults, the task's or tuned ones, --klom-param."""
        return self._filled(method, variant, self._defaults(method)[0])

    def cell(self, method: Method, variant: Variant, forget_set: str) -> Cell:
        """One test."""
        defaults, provenance = self._defaults(method)
        values = self._filled(method, variant, defaults)
        others = [name for name, value in defaults.items() if values[name] != value]
        tuned = provenance and len(others) < len(defaults)
        return Cell(
            task=self.task,
            method=method,
            hyperparameters=values,
            variant=variant.setting,
            epochs=self.options.epochs,
            tuning={**provenance, "overridden": others} if provenance and tuned else None,
            forget_set=self.forget_sets[forget_set],
            members=self.options.models,
            oracles=self.options.oracles,
            seed=self.options.seed,
            estimator=self.estimator,
            device=self.device,
        )

    def _defaults(self, method: Method) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
        """Defaults that take the place of the method's own, and how they were found."""
        if tuning := self.tunings.get(method.name):
            return tuning.chosen(), tuning.provenance()
        # A user's method that took the name of a built-in one has defaults of its own.
        if method is not methods.BUILT_IN.get(method.name, method):
            return {}, None
        name = method.name
        return self.task.hyperparameters.get(name, {}), self.task.tunings.get(name)

    def _filled(
        self, method: Method, variant: Variant, defaults: Mapping[str, Any]
    ) -> dict[str, Any]:
        given = dict(variant.given)
        epochs = self.options.epochs
        if epochs and type(method.hyperparameters.get("epochs")) is int:
            given.setdefault("epochs", epochs[-1])
        return method.values(given, defaults)

    def limits(self, method: str, forget_set: str, marker: Mapping[str, Any]) -> Limits:
        """What one test is held against: command line over marker over pyproject.toml."""
        limits = {
            **limits_for(self.gates, method, forget_set),
            **checked_limits(marker, "@pytest.mark.klom"),
            **checked_limits(dict(self.options.limits), "--klom-max"),
        }
        return Limits(limits, self.confidence, self.baseline, self.regressions)

    @property
    def confidence(self) -> float:
        """How sure gates must be: command line over pyproject.toml."""
        if self.options.confidence is not None:
            return self.options.confidence
        return float(self.gates.get(CONFIDENT, CONFIDENCE))


def _starts(config: pytest.Config) -> tuple[Path, ...]:
    """Where a pyproject.toml is looked for: pytest's root folder, then where it was started."""
    return config.rootpath, config.invocation_params.dir


def methods_of(config: pytest.Config) -> Methods:
    """Built-in methods, those of entry points and of pyproject.toml."""
    return methods_from(_starts(config))


def tasks_of(config: pytest.Config) -> Tasks:
    """Those, and the tasks of hooks; each with the forget sets of hooks added."""
    hooked: list[Task] = []
    for added in config.hook.pytest_klom_tasks(config=config):
        if added is not None and not (
            isinstance(added, list | tuple) and all(isinstance(task, Task) for task in added)
        ):
            raise KlomError(f"pytest_klom_tasks gave {added!r}: it must return a list of tasks")
        hooked += added or ()
    tasks = tasks_from(_starts(config), dict.fromkeys(hooked))
    return {name: partial(_with_forget_sets, config, load) for name, load in tasks.items()}


def _with_forget_sets(config: pytest.Config, load: Callable[[], Task]) -> Task:
    task, added = load(), dict[str, Any]()
    for sets in config.hook.pytest_klom_forget_sets(config=config, task=task):
        if sets is not None and not isinstance(sets, Mapping):
            raise KlomError(
                f"pytest_klom_forget_sets gave {sets!r}: it must return a dict, name -> indices"
            )
        for name, indices in (sets or {}).items():
            added[name] = lambda indices=indices: indices
    try:
        return replace(task, forget_sets={**task.forget_sets, **added}) if added else task
    except ValueError as error:
        raise KlomError(f"pytest_klom_forget_sets: {error}") from error


def resolve(options: Options, config: pytest.Config) -> Run:
    """The run that is asked for; KlomError for a name that is not known, or nothing there."""
    tasks = tasks_of(config)
    if options.task not in tasks:
        raise KlomError(
            f"{unknown('task', options.task, tasks)} (and what pytest_klom_tasks gives in the "
            "conftest.py of pytest's root folder, or [tool.klom] names: `klom help task`)"
        )
    task = tasks[options.task]()
    store = _store(options, task)
    hub = Hub.default() if store.missing == "download" else None
    task = stored(task, store.root, hub)
    named = (methods.BUILT_IN if name == "all" else [name] for name in options.methods)
    selected_methods = tuple(dict.fromkeys(name for group in named for name in group))
    names = selected(options.forget_sets, tuple(task.forget_sets))
    for owner, name, values in options.params:
        if owner not in (None, *selected_methods):
            raise KlomError(
                f"--klom-param {owner}.{name}={','.join(map(str, values))}: {owner!r} is not among "
                f"the methods selected with --klom-method: {', '.join(selected_methods)}"
            )
    if options.save_points is not None:
        _made(options.save_points, "--klom-save-points: ")
    table, gates_file = klom_table(_starts(config))
    gates = table.get("gates", {})
    checked_table(gates)
    checked_limits(dict(options.limits), "--klom-max")
    try:
        estimator = estimator_named(options.estimator)
        forget_sets = {name: task.forget_set(name) for name in names}
    except ValueError as error:
        raise KlomError(str(error)) from error
    every = variants(selected_methods, options.params)
    return Run(
        options=options,
        methods=selected_methods,
        variants=every,
        tunings=_tunings(options, selected_methods, task),
        task=task,
        forget_sets=forget_sets,
        estimator=estimator,
        device=device_named(options.device),
        store=store,
        gates=gates,
        gates_file=gates_file,
        known_tasks=tasks,
        known_methods=methods_of(config),
        baseline=_baseline(options, forget_sets.values(), every.values(), estimator),
        regressions={
            metric: checked_regression(metric, rise) for metric, rise in options.regressions
        },
    )


def _baseline(
    options: Options,
    forget_sets: Iterable[ForgetSet],
    every: Collection[Variant],
    estimator: Estimator,
) -> Baseline | None:
    """The baseline, once it is known that it can be compared with; KlomError where it cannot."""
    target = options.save_baseline
    if target is not None and (target.is_dir() or not os.access(target.parent, os.W_OK)):
        raise KlomError(
            f"--klom-save-baseline: {target} cannot be written: name a file in a "
            "folder that is there"
        )
    if options.baseline is None:
        if options.regressions:
            raise KlomError(
                "--klom-max-regression says how far scores may rise, but above what? Give the "
                "earlier run with --klom-baseline=FILE"
            )
        return None
    baseline = load(options.baseline)
    n, m, seed = options.models, options.oracles, options.seed
    baseline.refuse_other_settings(
        [
            asked(options.task, f, variant.method, variant.setting, n, m, estimator, seed)
            for f in forget_sets
            for variant in every
        ]
    )
    return baseline


def _tunings(options: Options, selected_methods: Collection[str], task: Task) -> dict[str, Tuning]:
    """Files of `klom tune`, by method; KlomError for one that is not of this run."""
    found: dict[str, Tuning] = {}
    for path in options.tuned:
        tuning = load_tuning(path)
        of_task, method = tuning.asked["task"], tuning.asked["method"]
        if not options.tuned_here and method not in selected_methods:
            continue  # the ini has files of all methods
        if of_task != task.name or method not in selected_methods or method in found:
            raise KlomError(
                f"--klom-tuned {path}: it is of {method} on {of_task}; each file must be of "
                f"another of the methods selected ({', '.join(selected_methods)}) on {task.name}"
            )
        found[method] = tuning
    return found


def _store(options: Options, task: Task) -> Store:
    root = store_root(options.store, "--klom-store")
    _made(root, "the store ", ": choose another folder with --klom-store")
    # Nothing is trained beside what others have published unless it is asked for.
    beside = find(root, EnsembleId(task, "original", 0)) is not None
    usual: Missing = "error" if task.published or beside else "train"
    return Store(root, cast(Missing, options.missing or usual), cast(WhenStale, options.stale))


def _made(folder: Path, which: str, advice: str = "") -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KlomError(f"{which}{folder} cannot be made ({error.strerror}){advice}") from error
