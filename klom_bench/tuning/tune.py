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

import klom_bench
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
from klom_bench.store.manifest import identity
from klom_bench.store.store import Store
from klom_bench.tasks.task import Task
from klom_bench.tasks.tuned import provenance
from klom_bench.tuning.ranges import Ranges
from klom_bench.tuning.sets import tuning_task

SCHEMA = 1
SEED_APART = 1_000_000
"""Added to the seed: originals and oracles that are tuned on are never those that are gated."""
OBJECTIVE = "mean over the forget sets of the mean P95 of forget, retain and val KLOM"


MOST_DRAWS = 50
"""Draws until a setting is new; a range of few values may have no more."""
PARTS_OF_A_TRIAL = ("ensemble", "methods", "metrics", "harness.py")


def objective(scores: Mapping[str, Mapping[str, float]]) -> float:
    """What is minimised, of P95 a split, a forget set."""
    return float(np.mean([list(of_set.values()) for of_set in scores.values()]))


@dataclass(frozen=True)
class Trial:
    """One setting. scores: P95 a split, a forget set; error: why there are none; do_nothing: the
    objective of the originals."""

    hyperparameters: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: float | None = None
    seconds: float = 0.0
    error: str | None = None
    do_nothing: float | None = None

    @property
    def objective(self) -> float:
        """What is minimised; infinite where a run failed."""
        if self.error is not None:
            return float("inf")
        return objective(self.scores)


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
            "do_nothing": self.best.do_nothing if self.best else None,
            "trials": [
                {
                    "hyperparameters": {n: plain_setting(v) for n, v in t.hyperparameters.items()},
                    "objective": None if t.error is not None else round(t.objective, 4),
                    "scores": t.scores,
                    "examples": t.examples,
                    "seconds": round(t.seconds, 2),
                    "error": t.error,
                    "do_nothing": t.do_nothing,
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
            Trial(
                t["hyperparameters"],
                t["scores"],
                t["examples"],
                t["seconds"],
                t["error"],
                t.get("do_nothing"),
            )
            for t in content.pop("trials")
        )
        for name in ("task", "method", "ranges", "forget_sets", "seed", "members"):
            content[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KlomError(
            f"{path} is not a file of `klom tune` ({type(error).__name__}: {error})"
        ) from error
    asked = {n: v for n, v in content.items() if n not in ("chosen", "objective", "do_nothing")}
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

    KlomError where the file there is of other sets, models, ranges or code.

    The first trial has the method's own defaults, where they lie in the ranges; of the rest the
    first half is drawn from the ranges, the second half near the best so far. Sets are disjoint
    from the task's own; originals and oracles are of another seed.
    """
    other = tuning_task(task, method)
    sets = [other.forget_set(name) for name in other.forget_sets]
    cells = [
        Cell(
            other, method, {}, f, members, members, seed + SEED_APART, ESTIMATORS["default"], device
        )
        for f in sets
    ]
    asked = {
        "klom_tuning": SCHEMA,
        "task": task.name,
        "method": method.name,
        "objective_is": OBJECTIVE,
        "ranges": {name: str(r) for name, r in ranges.items()},
        "members": members,
        "seed": seed + SEED_APART,
        "forget_sets": {f.name: f.sha256 for f in sets},
        "originals": {**identity(cells[0].original_id), "model": dict(task.signature.layers)},
        "code_sha256": _code(method),
    }
    asked = json.loads(json.dumps(asked))
    before: dict[str, Trial] = {}
    if path.exists():
        old = load(path)
        other_keys = [key for key in {**asked, **old.asked} if old.asked.get(key) != asked.get(key)]
        if other_keys:
            raise KlomError(
                f"{path} has trials of something else ({', '.join(other_keys)} differ): name "
                "another folder with --output, or move that file away"
            )
        if len(old.trials) >= trials:
            return old
        before = {_key(trial): trial for trial in old.trials}
    path.parent.mkdir(parents=True, exist_ok=True)
    ensembles = [(cells[0].original_id, members), *((cell.oracle_id, members) for cell in cells)]
    store.complete_all(ensembles, device, announce)
    done, rng = Tuning(asked), np.random.default_rng(member_seed("tune", method.name, seed))
    with_defaults = all(r.holds(method.hyperparameters[name]) for name, r in ranges.items())
    for number in range(trials):
        late = done.best if number >= trials / 2 else None
        tried = {_key(trial) for trial in done.trials}
        for _ in range(MOST_DRAWS):
            first = number == 0 and with_defaults
            drawn = {} if first else _proposed(ranges, late, rng)
            proposed = method.settings(drawn, {})
            trial = Trial({n: plain_setting(v) for n, v in proposed.items()})
            if _key(trial) not in tried:
                break
        if _key(trial) not in before and len(done.trials) + len(before) >= trials:
            break  # there were trials of another number, so of other settings
        known = before.pop(_key(trial), None)
        trial = known or _measured(trial, [replace(c, settings=proposed) for c in cells], store)
        done = replace(done, trials=(*done.trials, trial))
        if not known:
            whole = replace(done, trials=(*done.trials, *before.values()))
            write_whole(path, (json.dumps(whole.as_json(), indent=1) + "\n").encode())
        tell(number, trial)
    return replace(done, trials=(*done.trials, *before.values()))


def _proposed(ranges: Ranges, best: Trial | None, rng: np.random.Generator) -> dict[str, Any]:
    if best is None:
        return {name: r.draw(rng) for name, r in ranges.items()}
    return {name: r.near(best.hyperparameters[name], rng) for name, r in ranges.items()}


def _measured(trial: Trial, cells: list[Cell], store: Store) -> Trial:
    start, scores, examples = time.perf_counter(), {}, []
    nothing = {}
    try:
        for cell in cells:
            record, name = measure(cell, store, _timed), cell.forget_set.name
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


def _timed(unlearn: Callable[[], None]) -> float:
    start = time.perf_counter()
    unlearn()
    return time.perf_counter() - start


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
