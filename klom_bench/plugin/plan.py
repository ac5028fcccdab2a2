"""--klom-plan."""

import time
from collections.abc import Callable, Sequence
from math import isnan

import numpy as np
import pytest

from klom_bench.cell.cell import unfit_for
from klom_bench.ensemble.device import finish
from klom_bench.ensemble.threads import side_by_side, thread_count
from klom_bench.plugin.collection import is_of
from klom_bench.plugin.planned_gates import planned_gates
from klom_bench.plugin.run import Run
from klom_bench.report.columns import aligned
from klom_bench.store.advice import how_to_bring, to_bring
from klom_bench.store.training import new_members
from klom_bench.tasks.ensemble_id import EnsembleId

STEPS = 5


def plan(run: Run, items: Sequence[pytest.Item]) -> str:
    """What is in the store, what would be trained and for about how long; what decides gates."""
    few = planned_gates(run, items)  # before it is looked at what is there: it may train some
    options, task = run.options, run.bench.task
    ensembles = [(EnsembleId(task, "original", options.seed), options.models)] + [
        (EnsembleId(task, "oracle", options.seed, forget_set), options.oracles)
        for forget_set in run.bench.forget_sets.values()
        if not items or any(is_of(item.nodeid, [forget_set.name]) for item in items)
    ]
    if count := _subsets(run):
        ensembles.append((EnsembleId(task, "subset", options.seed), count))
    lack = "to train" if task.trains else "missing"
    rows, lacking, known = [("ensemble", "wanted", "in the store", lack)], 0, []
    stale, found = [], []
    for ensemble, wanted in ensembles:
        if why := run.bench.store.stale_if(ensemble, run.bench.device):
            stale.append(f"stale, so it would be moved aside: {why}")
            lacking += wanted
            rows.append((ensemble.label, str(wanted), "0", str(wanted)))
            continue
        held = run.bench.store.held(ensemble)
        missing = held.lacks(wanted)
        found.append((held, wanted))
        lacking += missing
        if not isnan(held.seconds):
            known.append(held.seconds)
        rows.append((ensemble.label, str(wanted), str(wanted - missing), str(missing)))
    lines = ["", *aligned(rows, left=1), *stale, f"store: {run.bench.store.root}"]
    seconds = sum(known) / len(known) if known else None
    if not lacking:
        lines.append("nothing to train" if task.trains else "nothing is missing")
    elif untrained := to_bring(found):
        lines += ["the tests would fail:", *how_to_bring(run.bench.store.root, untrained)]
    elif run.bench.store.missing == "error":
        lines.append(f"{lacking} members are missing: the tests would fail (--klom-missing=error)")
    elif run.bench.store.missing == "download":
        lines.append(f"{lacking} members to download (--klom-missing=download)")
    else:
        source = "from those in the store" if seconds else f"from {STEPS} steps on this machine"
        seconds = seconds or seconds_a_member(run)
        total = lacking * seconds / thread_count(run.bench.device)
        most = "at most " if run.bench.looks else ""
        lines.append(f"{most}{lacking} members to train: about {total:.0f} s ({source})")
        way, reason = task.way
        if not way.stacked:
            lines.append(f"members are computed one after the other: {reason}")
    return "\n".join([*lines, *few.lines(found, seconds)]) + "\n"


def _subsets(run: Run) -> int:
    """Models on random halves that known methods ask for; 0 where none does."""
    counts = [0]
    for variant in run.variants.values():
        if variant.method in run.known_methods:
            method = run.known_methods[variant.method]()
            if "datamodels" in method.needs and not unfit_for(method, run.bench.task):
                counts.append(run.bench.hyperparameters(method, variant)["subsets"])
    return max(counts)


def seconds_a_member(run: Run) -> float:
    """Seconds of training a member, from a few steps of one pack that are thrown away."""
    task, device = run.bench.task, run.bench.device
    members = list(range(min(task.pack, run.options.models)))
    size = min(STEPS * task.training.batch_size, task.train_points)
    data = task.data_on(device)
    model = new_members(EnsembleId(task, "original", run.options.seed), members).to(device)
    points = data.points(np.arange(size), model.generators)

    def epoch(check: Callable[[], None]) -> float:
        finish(device)
        start = time.perf_counter()
        next(task.training(model, points))
        check()
        finish(device)
        return time.perf_counter() - start

    side_by_side(epoch, 1, device)  # warms up
    (seconds,) = side_by_side(epoch, 1, device)
    return seconds / size * task.train_points * task.training.epochs / len(members)
