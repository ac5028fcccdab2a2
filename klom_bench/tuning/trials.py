"""Trials of hyperparameters, and the file that holds them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from klom_bench.cell.record_json import plain_value
from klom_bench.errors import KlomError
from klom_bench.tasks.tuned import provenance

SCHEMA = 1
OBJECTIVE = "mean over the forget sets of the mean P95 of forget, retain and val KLOM"


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

    def at_ends(self) -> dict[str, str]:
        """Name -> range of each number whose choice lies within 5 % of an end of its range.

        A whole number of 1 is none: nothing lies below.
        """
        found = {}
        for name, value in (self.chosen() if self.best else {}).items():
            text = self.asked["ranges"][name]
            low, dots, high = text.removesuffix(" whole").partition("..")
            if text.endswith(" whole") and value == 1:
                continue
            if dots and not float(low) * 1.05 < value < float(high) / 1.05:
                found[name] = f"{low}..{high}"
        return found

    def as_json(self) -> dict[str, Any]:
        """Every trial, in plain values."""
        return {
            **self.asked,
            "chosen": self.chosen() if self.best else None,
            "objective": self.best.objective if self.best else None,
            "do_nothing": self.best.do_nothing if self.best else None,
            "trials": [
                {
                    "hyperparameters": {n: plain_value(v) for n, v in t.hyperparameters.items()},
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

    def as_text(self) -> str:
        """The same as the file has it: a trial a line."""
        content = self.as_json()
        rows = ",\n".join(f"  {json.dumps(trial)}" for trial in content.pop("trials"))
        head = json.dumps(content, indent=1).removesuffix("\n}")
        return f'{head},\n "trials": [\n{rows}\n ]\n}}\n'

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
