"""`klom tune`: so many trials of a method's hyperparameters, all of them written down."""

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import klom_bench
from klom_bench.cell.bench import Bench
from klom_bench.cell.cell import Cell
from klom_bench.cell.measure import measure
from klom_bench.cell.record_json import plain_value
from klom_bench.ensemble.seeds import member_seed
from klom_bench.errors import KlomError
from klom_bench.files.atomic import write_whole
from klom_bench.methods.method import Method, source_of
from klom_bench.methods.ranges import Ranges
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.summary import SPLITS
from klom_bench.progress import Announce, silent
from klom_bench.store.manifest import identity
from klom_bench.store.store import Store
from klom_bench.tasks.task import Task
from klom_bench.tuning.sets import tuning_task
from klom_bench.tuning.trials import OBJECTIVE, SCHEMA, Trial, Tuning, load, objective

SEED_APART = 1_000_000
"""Added to the seed: originals and oracles that are tuned on are never those that are gated."""
MOST_DRAWS = 50
"""Draws until a setting is new; a range of few values may have no more."""
PARTS_OF_A_TRIAL = (
    "ensemble",
    "methods",
    "metrics",
    "cell/measure.py",
    "cell/scoring.py",
    "cell/loading.py",
    "cell/after.py",
    "cell/rounds.py",
    "cell/unlearning.py",
)


def tune(
    task: Task,
    method: Method,
    ranges: Ranges,
    trials: int,
    members: int,
    seed: int,
    store: Store,
    path: Path,
    device: torch.device,
    announce: Announce = silent,
    tell: Callable[[int, Trial], None] = lambda *_: None,
) -> Tuning:
    """Measure so many settings and write each to `path` as it ends; those already there are kept.

    KlomError where the file there is of other sets, models, ranges or code.

    The first trial has the method's own defaults, where they lie in the ranges; of the rest the
    first half is drawn from the ranges, the second half near the best so far. Sets are disjoint
    from the task's own; originals and oracles are of another seed.
    """
    other = tuning_task(task, method)
    bench = Bench(
        task=other,
        forget_sets={name: other.forget_set(name) for name in other.forget_sets},
        models=members,
        oracles=members,
        seed=seed + SEED_APART,
        estimator=ESTIMATORS["default"],
        device=device,
        store=store,
    )
    cells = [bench.cell_with(method, {}, name) for name in bench.forget_sets]
    asked = _asked(task, method, ranges, cells)
    earlier = _earlier(path, asked)
    if len(earlier) >= trials:
        return Tuning(asked, earlier)
    before = {_key(trial): trial for trial in earlier}
    path.parent.mkdir(parents=True, exist_ok=True)
    ensembles = [(cells[0].original_id, members), *((cell.oracle_id, members) for cell in cells)]
    store.complete(ensembles, device, announce)
    done, rng = Tuning(asked), np.random.default_rng(member_seed("tune", method.name, seed))
    with_defaults = all(r.holds(method.hyperparameters[name]) for name, r in ranges.items())
    for number in range(trials):
        late = done.best if number >= trials / 2 else None
        tried = {_key(trial) for trial in done.trials}
        for _ in range(MOST_DRAWS):
            first = number == 0 and with_defaults
            values = method.values({} if first else _proposed(ranges, late, rng), {})
            trial = Trial({n: plain_value(v) for n, v in values.items()})
            if _key(trial) not in tried:
                break
        if _key(trial) not in before and len(done.trials) + len(before) >= trials:
            break  # there were trials of another number, so of other settings
        known = before.pop(_key(trial), None)
        trial = known or _measured(
            trial, [replace(c, hyperparameters=values) for c in cells], store
        )
        done = replace(done, trials=(*done.trials, trial))
        if not known:
            whole = replace(done, trials=(*done.trials, *before.values()))
            write_whole(path, whole.as_text().encode())
        tell(number, trial)
    return replace(done, trials=(*done.trials, *before.values()))


def _asked(task: Task, method: Method, ranges: Ranges, cells: Sequence[Cell]) -> dict[str, Any]:
    """Everything that decides what the trials are, as JSON has it."""
    first = cells[0]
    asked = {
        "klom_tuning": SCHEMA,
        "task": task.name,
        "method": method.name,
        "objective_is": OBJECTIVE,
        "ranges": {name: str(r) for name, r in ranges.items()},
        "members": first.members,
        "seed": first.seed,
        "forget_sets": {cell.forget_set.name: cell.forget_set.sha256 for cell in cells},
        "originals": {**identity(first.original_id), "model": dict(task.signature.layers)},
        "code_sha256": _code(method),
    }
    found: dict[str, Any] = json.loads(json.dumps(asked))
    return found


def _earlier(path: Path, asked: Mapping[str, Any]) -> tuple[Trial, ...]:
    """Trials that are written down already; KlomError where they are of something else."""
    if not path.exists():
        return ()
    old = load(path)
    different = [key for key in {**asked, **old.asked} if old.asked.get(key) != asked.get(key)]
    if different:
        raise KlomError(
            f"{path} has trials of something else ({', '.join(different)} differ): name "
            "another folder with --output, or move that file away"
        )
    return old.trials


def _proposed(ranges: Ranges, best: Trial | None, rng: np.random.Generator) -> dict[str, Any]:
    if best is None:
        return {name: r.draw(rng) for name, r in ranges.items()}
    return {name: r.near(best.hyperparameters[name], rng) for name, r in ranges.items()}


def _measured(trial: Trial, cells: list[Cell], store: Store) -> Trial:
    start, scores, examples = time.perf_counter(), {}, []
    nothing = {}
    try:
        for cell in cells:
            record, name = measure(cell, store), cell.forget_set.name
            scores[name], nothing[name] = (
                {split: round(of[split].p95, 4) for split in SPLITS}
                for of in (record.scores, record.do_nothing)
            )
            examples.append(record.relative_cost["examples"])
    except Exception as error:  # a setting that the method cannot bear is a trial, too
        known = isinstance(error, KlomError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        return replace(trial, seconds=time.perf_counter() - start, error=text)
    return replace(
        trial,
        scores=scores,
        do_nothing=objective(nothing),
        examples=round(float(np.mean(examples)), 4),
        seconds=time.perf_counter() - start,
    )


def _key(trial: Trial) -> str:
    return json.dumps(trial.hyperparameters, sort_keys=True)


def _code(method: Method) -> str:
    """Trials of other code are not those of this: all that unlearns and scores, and the method."""
    package = Path(klom_bench.__file__).parent
    files = [*(package / part for part in PARTS_OF_A_TRIAL), Path(inspect.getfile(_source(method)))]
    sources = [f for p in files for f in (sorted(p.glob("*.py")) if p.is_dir() else [p])]
    return hashlib.sha256(b"".join(f.read_bytes() for f in sources)).hexdigest()


def _source(method: Method) -> Any:
    found = source_of(method.function)
    return found if inspect.isroutine(found) else type(found)
