"""`klom tune`: so many trials of a method's hyperparameters, all of them written down."""

import hashlib
import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from klom_bench.conformance.claims import source_of
from klom_bench.ensemble.seeds import member_seed
from klom_bench.errors import KlomError
from klom_bench.harness import measure
from klom_bench.methods.method import Method
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.summary import SPLITS
from klom_bench.progress import Announce, silent
from klom_bench.record import Cell, plain_setting
from klom_bench.store.files import write_whole
from klom_bench.store.store import Store
from klom_bench.tasks.task import Task
from klom_bench.tasks.tuned import provenance
from klom_bench.tuning.ranges import Ranges
from klom_bench.tuning.sets import tuning_task

SCHEMA = 1
SEED_APART = 1_000_000
"""Added to the seed: originals and oracles that are tuned on are never those that are gated."""
OBJECTIVE = "mean over the forget sets of the mean P95 of forget, retain and val KLOM"


@dataclass(frozen=True)
class Trial:
    """One setting. scores: P95 a split, a forget set; error: why there are none."""

    hyperparameters: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: float | None = None
    seconds: float = 0.0
    error: str | None = None

    @property
    def objective(self) -> float:
        """What is minimised; infinite where a run failed."""
        if self.error is not None:
            return float("inf")
        return float(np.mean([list(of_set.values()) for of_set in self.scores.values()]))


@dataclass(frozen=True)
class Tuning:
    """What was asked for, and the trials so far."""

    asked: Mapping[str, Any]
    trials: tuple[Trial, ...] = ()

    @property
    def best(self) -> Trial | None:
        """The trial with the lowest objective."""
        sound = [trial for trial in self.trials if trial.error is None]
        return min(sound, key=lambda trial: trial.objective, default=None)

    def chosen(self) -> dict[str, Any]:
        """The tuned hyperparameters of the best trial."""
        if self.best is None:
            raise KlomError(f"no trial of {self.asked['method']} was measured: nothing is chosen")
        return {name: self.best.hyperparameters[name] for name in self.asked["ranges"]}

    def as_json(self) -> dict[str, Any]:
        """Every trial, in plain values."""
        return {
            **self.asked,
            "chosen": self.chosen() if self.best else None,
            "objective": self.best.objective if self.best else None,
            "trials": [
                {
                    "hyperparameters": {n: plain_setting(v) for n, v in t.hyperparameters.items()},
                    "objective": None if t.error is not None else round(t.objective, 4),
                    "scores": t.scores,
                    "examples": t.examples,
                    "seconds": round(t.seconds, 2),
                    "error": t.error,
                }
                for t in self.trials
            ],
        }

    def provenance(self) -> dict[str, Any]:
        """What a record says of it."""
        return provenance(self.as_json())


def load(path: Path) -> Tuning:
    """A file of `klom tune`; KlomError for anything else."""
    try:
        content = json.loads(path.read_bytes())
        if content["klom_tuning"] != SCHEMA:
            raise ValueError(f"it is of version {content['klom_tuning']!r}, not {SCHEMA}")
        trials = tuple(
            Trial(t["hyperparameters"], t["scores"], t["examples"], t["seconds"], t["error"])
            for t in content.pop("trials")
        )
        for name in ("task", "method", "ranges", "forget_sets", "seed", "members"):
            content[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KlomError(
            f"{path} is not a file of `klom tune` ({type(error).__name__}: {error})"
        ) from error
    asked = {n: v for n, v in content.items() if n not in ("chosen", "objective")}
    return Tuning(asked, trials)


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

    The first trial has the method's own defaults; of the rest the first half is drawn from the
    ranges, the second half near the best so far. Sets are disjoint from the task's own; originals
    and oracles are of another seed.
    """
    other = tuning_task(task, method)
    sets = [other.forget_set(name) for name in other.forget_sets]
    asked = {
        "klom_tuning": SCHEMA,
        "task": task.name,
        "method": method.name,
        "objective_is": OBJECTIVE,
        "ranges": {name: str(r) for name, r in ranges.items()},
        "members": members,
        "seed": seed + SEED_APART,
        "forget_sets": {f.name: f.sha256 for f in sets},
        "code_sha256": _code(method),
    }
    asked = json.loads(json.dumps(asked))
    before = {}
    if path.exists() and (old := load(path)).asked == asked:
        before = {_key(trial): trial for trial in old.trials if trial.error is None}
    done, rng = Tuning(asked), np.random.default_rng(member_seed("tune", method.name, seed))
    default = method.settings({}, {})
    for number in range(trials):
        late = done.best if number >= trials / 2 else None
        proposed = default if number == 0 else {**default, **_proposed(ranges, late, rng)}
        trial = Trial({n: plain_setting(v) for n, v in proposed.items()})
        if _key(trial) in before:
            trial = before[_key(trial)]
        else:
            cells = [
                Cell(other, method, proposed, f, members, members, seed + SEED_APART,
                     ESTIMATORS["default"], device)
                for f in sets
            ]  # fmt: skip
            trial = _measured(trial, cells, store, announce)
        done = replace(done, trials=(*done.trials, trial))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(done.as_json(), indent=1) + "\n").encode())
        tell(number, trial)
    return done


def _proposed(ranges: Ranges, best: Trial | None, rng: np.random.Generator) -> dict[str, Any]:
    if best is None:
        return {name: r.draw(rng) for name, r in ranges.items()}
    return {name: r.near(best.hyperparameters[name], rng) for name, r in ranges.items()}


def _measured(trial: Trial, cells: list[Cell], store: Store, announce: Announce) -> Trial:
    start, scores, examples = time.perf_counter(), {}, []
    try:
        for cell in cells:
            record = measure(cell, store, _timed, announce)
            scores[cell.forget_set.name] = {s: round(record.scores[s].p95, 4) for s in SPLITS}
            examples.append(record.relative_cost["examples"])
    except KlomError as error:
        return replace(trial, seconds=time.perf_counter() - start, error=str(error))
    return replace(
        trial,
        scores=scores,
        examples=round(float(np.mean(examples)), 4),
        seconds=time.perf_counter() - start,
    )


def _timed(unlearn: Callable[[], None]) -> float:
    start = time.perf_counter()
    unlearn()
    return time.perf_counter() - start


def _key(trial: Trial) -> str:
    return json.dumps(trial.hyperparameters, sort_keys=True)


def _code(method: Method) -> str:
    """Trials of other code are not those of this."""
    module = inspect.getmodule(source_of(method.function))
    source = inspect.getsource(module) if module else method.name
    return hashlib.sha256(source.encode()).hexdigest()
