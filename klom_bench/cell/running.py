"""`klom_bench.run`: cells measured one after the other, without pytest."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from klom_bench.cell.bench import bench_for, store_for
from klom_bench.cell.cell import Cell
from klom_bench.cell.counts import MOST, looks_in, refuse_one_model
from klom_bench.cell.gates import checked_limits
from klom_bench.cell.limits import Limits
from klom_bench.cell.measure import measure
from klom_bench.cell.record import NotApplicable, Record
from klom_bench.cell.variants import Param, variants
from klom_bench.engine import engine_named
from klom_bench.errors import KlomError, unknown
from klom_bench.found import method_named, tasks_from, with_all
from klom_bench.methods.method import Method, method_of
from klom_bench.progress import progress
from klom_bench.tasks.task import Task

AMethod = str | Method | Callable[..., Any]
Names = str | int | Iterable[str | int]


def run(
    task: str | Task,
    methods: AMethod | Iterable[AMethod],
    *,
    forget_sets: Names | None = None,
    params: Mapping[str, Any] | None = None,
    models: int | str = MOST,
    oracles: int | None = None,
    seed: int = 0,
    device: str = "auto",
    estimator: str = "default",
    limits: Mapping[str, float] | None = None,
    store: str | PathLike[str] | None = None,
    engine: str = "threads",
    gpu_share: float | None = None,
) -> list[Record | NotApplicable]:
    """Unlearn every forget set by every method, and score each with KLOM, as pytest would.

    Models that the store does not hold are trained. Progress is told on standard error.

    Args:
        task: its name, or a `Task`.
        methods: names (`all`: the built-in ones; FILE.py:FUNCTION), methods, or functions as the
            fixtures of a conftest.py return them, which are called by their own names; one or
            several.
        forget_sets: names or numbers, one or several; all of the task if there are none.
        params: hyperparameters, as {"lr": 0.1}, or {"ga.lr": 0.1} for one method; a list of values
            makes a record of each.
        models, oracles: how many; as many oracles as models unless told otherwise. models="auto"
            adds them until each of the `limits` is settled, as --klom-models.
        seed: of all models; another seed is another set of ensembles.
        device: auto, cpu, cuda or cuda:1.
        estimator: as --klom-estimator.
        limits: gates, as {"forget_excess": 0.2}; those of pyproject.toml are not looked at.
        store: the folder of ensembles; $KLOM_STORE or your cache folder if there is none.
        engine: as --klom-engine: threads, or ray, which computes on a cluster.
        gpu_share: as --klom-gpu-share.

    Returns:
        For each forget set, in turn, what each method left behind: a `Record` with per-point
        scores, or a `NotApplicable`, whose `unfit` says why the method does not apply.

    Raises:
        KlomError: whatever would end or fail a run of pytest; and what a method raises itself. The
            first error ends all: what was trained is kept.

    Example:
        >>> from klom_bench import run
        >>> ga, unsir = run("digits", ["ga", "unsir"], forget_sets=3, models=2)
        >>> ga.word, ga.points.shape
        ('cannot be told at this N', (1797,))
        >>> unsir.unfit
        'unsir unlearns whole classes only, and the forget set is none ...'
    """
    *looks, models = looks_in(str(models), "models")
    oracles = models if oracles is None else oracles
    refuse_one_model("oracles", oracles)
    if seed < 0:
        raise KlomError(f"seed must not be negative, got {seed}")
    held = Limits(checked_limits(limits or {}, "limits"))
    if looks and not held.limits:
        raise KlomError("models are added until each gate is settled, and `limits` has none")
    held.refuse_too_few(min(models, oracles))
    chosen = _methods(methods)
    every = variants(chosen, [_param(*item) for item in (params or {}).items()], "params")
    found = _task(task)
    computes = engine_named(engine, gpu_share, device)
    bench = bench_for(
        found,
        _texts(forget_sets),
        models=models,
        oracles=oracles,
        seed=seed,
        estimator=estimator,
        device=device,
        store=store_for(found, None if store is None else Path(store), "store", engine=computes),
        looks=(*looks, models) if looks else (),
    )
    cells = [
        bench.cell(chosen[variant.method], variant, name)
        for name in bench.forget_sets
        for variant in every.values()
    ]
    announce = progress()
    with closing(computes):
        return [
            _not_applicable(cell, cell.unfit)
            if cell.unfit
            else measure(cell, bench.store, announce=announce, limits=held)
            for cell in cells
        ]


def _task(given: str | Task) -> Task:
    if isinstance(given, Task):
        return given
    known = tasks_from([Path.cwd()])
    if given not in known:
        raise KlomError(f"{unknown('task', given, known)}; or give a Task")
    return known[given]()


def _methods(given: AMethod | Iterable[AMethod]) -> dict[str, Method]:
    """Methods by name; KlomError where two have one, or there is none."""
    several = [given] if isinstance(given, str) or callable(given) else [*given]
    found: dict[str, Method] = {}
    for one in several:
        named = with_all([one]) if isinstance(one, str) else [one]
        for method in map(_method, named):
            if found.setdefault(method.name, method) is not method:
                raise KlomError(
                    f"two methods are named {method.name!r}: give functions names of their own"
                )
    if not found:
        raise KlomError("no method is given: `klom list` names those that there are")
    return found


def _method(given: AMethod) -> Method:
    if isinstance(given, str):
        return method_named(given)
    if isinstance(given, Method):
        return given
    name = getattr(given, "__name__", None)
    if name is None:
        raise KlomError(f"{given!r} has no name: give a function, or a name of a method")
    return method_of(name, given)


def _param(text: str, value: Any) -> Param:
    """A list is several values; one in another is one."""
    method, _, name = text.rpartition(".")
    values: Sequence[Any] = [
        one.item() if isinstance(one, np.generic) else one
        for one in (value if isinstance(value, list | np.ndarray) else [value])
    ]
    if not values:
        raise KlomError(f"params: there is no value for {text}")
    return method or None, name, tuple(values)


def _texts(given: Names | None) -> list[str]:
    if given is None:
        return []
    found = [str(one) for one in ([given] if isinstance(given, str | int) else given)]
    if not found:
        raise KlomError("forget_sets is empty: leave it out for all of the task")
    return found


def _not_applicable(cell: Cell, why: str) -> NotApplicable:
    return NotApplicable(
        cell.task.name,
        cell.forget_set.name,
        cell.method.name,
        cell.variant,
        cell.method.sees_oracles,
        why,
    )
