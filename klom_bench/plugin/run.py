"""A run: the options, resolved to things that exist. Imports torch; only when asked to."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from klom_bench.cell.baseline import Baseline
from klom_bench.cell.bench import Bench, Defaults, bench_for, store_for
from klom_bench.cell.record_json import asked
from klom_bench.cell.variants import Variant, variants
from klom_bench.engine import engine_named
from klom_bench.errors import KlomError, unknown
from klom_bench.found import Methods, Tasks, methods_from, tasks_from, with_all
from klom_bench.plugin.asked import Options
from klom_bench.plugin.gating import Gating, gating_for, starts
from klom_bench.tasks.task import Task
from klom_bench.tuning.trials import load as load_tuning


@dataclass(frozen=True)
class Run:
    """What the cells of a run share (`bench`), and what only pytest knows of.

    until: when no further look is begun, by `time.monotonic`.
    """

    options: Options
    methods: tuple[str, ...]
    variants: Mapping[str, Variant]
    bench: Bench
    gating: Gating
    known_tasks: Tasks
    known_methods: Methods
    until: float = math.inf


def methods_of(config: pytest.Config) -> Methods:
    """Built-in methods, those of entry points and of pyproject.toml."""
    return methods_from(starts(config))


def tasks_of(config: pytest.Config) -> Tasks:
    """Those, and the tasks of hooks; each with the forget sets of hooks added."""
    hooked: list[Task] = []
    for added in config.hook.pytest_klom_tasks(config=config):
        if added is not None and not (
            isinstance(added, list | tuple) and all(isinstance(task, Task) for task in added)
        ):
            raise KlomError(f"pytest_klom_tasks gave {added!r}: it must return a list of tasks")
        hooked += added or ()
    tasks = tasks_from(starts(config), dict.fromkeys(hooked))
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
    engine = engine_named(options.engine, options.gpu_share, options.device)
    store = store_for(task, options.store, "--klom-store", options.missing, options.stale, engine)
    selected_methods = with_all(options.methods)
    every = variants(selected_methods, options.params, "--klom-param")
    gating = gating_for(options, config)
    bench = bench_for(
        task,
        options.forget_sets,
        models=options.models,
        oracles=options.oracles,
        seed=options.seed,
        estimator=options.estimator,
        device=options.device,
        store=store,
        epochs=options.epochs,
        tuned=_tuned(options, selected_methods, task),
        looks=options.looks,
    )
    if gating.baseline:
        _refuse_other_settings(gating.baseline, gating.regressions, bench, every.values())
    return Run(
        options=options,
        methods=selected_methods,
        variants=every,
        bench=bench,
        gating=gating,
        known_tasks=tasks,
        known_methods=methods_of(config),
        until=math.inf if options.budget is None else time.monotonic() + 60 * options.budget,
    )


def _refuse_other_settings(
    baseline: Baseline, metrics: Collection[str], bench: Bench, every: Iterable[Variant]
) -> None:
    """KlomError where the baseline's tests of this run are of other settings."""
    n, m, seed, estimator = bench.models, bench.oracles, bench.seed, bench.estimator
    baseline.refuse_other_settings(
        [
            asked(bench.task.name, f, variant.method, variant.setting, n, m, estimator, seed)
            for f in bench.forget_sets.values()
            for variant in every
        ],
        metrics,
    )


def _tuned(options: Options, selected_methods: Collection[str], task: Task) -> dict[str, Defaults]:
    """Of files of `klom tune`, by method; KlomError for one that is not of this run."""
    found: dict[str, Defaults] = {}
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
        found[method] = Defaults(tuning.chosen(), tuning.provenance())
    return found
