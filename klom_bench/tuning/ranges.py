"""Where hyperparameters are looked for."""

import ast
import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from klom_bench.errors import KlomError
from klom_bench.methods.method import Method

STEP = 0.15
"""A step from the best trial, as a share of a range's width."""


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, evenly in their logarithm (or as they are); whole ones if asked."""

    low: float
    high: float
    log: bool = True
    whole: bool = False

    def at(self, share: float) -> float | int:
        """The value at a share 0 ... 1 of the way; three digits are kept."""
        a, b = (math.log(v) if self.log else v for v in (self.low, self.high))
        value = a + share * (b - a)
        value = math.exp(value) if self.log else value
        return round(value) if self.whole else float(f"{value:.3g}")

    def holds(self, value: Any) -> bool:
        """Whether a value lies inside."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> float | int:
        """Anywhere."""
        return self.at(rng.random())

    def near(self, value: float, rng: np.random.Generator) -> float | int:
        """A step away from a value."""
        inside = min(max(value, self.low), self.high)
        a, b, v = (math.log(v) if self.log else v for v in (self.low, self.high, inside))
        share = (v - a) / (b - a)
        return self.at(min(max(share + STEP * rng.normal(), 0.0), 1.0))

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' whole' * self.whole}"


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.values

    def draw(self, rng: np.random.Generator) -> Any:
        """Any of them."""
        return self.values[rng.integers(len(self.values))]

    def near(self, value: Any, rng: np.random.Generator) -> Any:
        """Mostly the same one; it may have been in a file, where tuples are lists."""
        same = [v for v in self.values if json.dumps(v) == json.dumps(value)]
        return same[0] if same and rng.random() < 0.7 else self.draw(rng)

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


Ranges = Mapping[str, Range | Choice]

USUAL: Ranges = {
    "lr": Range(1e-4, 1.0),
    "epochs": Range(1, 10, whole=True),
    "batch_size": Choice((32, 64, 128, 256)),
}
"""Of methods that say nothing else; 10 epochs on R are half of a retraining of `digits`."""
_ADAM = Range(1e-5, 0.1)
_SHARE = Range(0.1, 0.9, log=False)
_BLOCKS = Range(1, 2, whole=True)
OWN: Mapping[str, Ranges] = {
    "gda": {"ascent_epochs": Range(1, 5, whole=True)},
    "neggrad_plus": {"alpha": Range(0.5, 0.999, log=False)},
    "noisy_descent": {"sigma": Range(0.01, 1.0)},
    "salun": {"share": _SHARE},
    # With m = 1 the first forget batch has no gradient, since f is f0 still.
    "scrub": {"alpha": Range(0.01, 10.0), "max_epochs": Range(2, 5, whole=True)},
    "bad_teacher": {"lr": _ADAM, "share": _SHARE},
    "boundary_shrink": {"bound": Range(0.01, 2.0)},
    "l1_sparse": {"gamma": Range(1e-6, 1e-2)},
    "cf_k": {"k": _BLOCKS},
    "eu_k": {  # what is drawn anew has to be trained
        "k": _BLOCKS,
        "lr": Range(0.01, 0.3),
        "epochs": Range(5, 10, whole=True),
    },
    "ssd": {"alpha": Range(0.5, 100.0), "lam": Range(0.1, 1.0)},
    "lfssd": {"alpha": Range(0.5, 100.0), "lam": Range(0.1, 1.0)},
    "fisher": {"alpha": Range(1e-9, 0.1)},
    "influence": {
        "alpha": Range(0.3, 3.0),
        "damping": Range(1e-4, 0.1),
        "iterations": Range(3, 9, whole=True),
        "batch_size": Choice((512,)),
    },
    "msg": {"share": _SHARE, "slow": Range(0.01, 1.0)},
    "unsir": {
        "impair_lr": _ADAM,
        "repair_lr": _ADAM,
        "penalty": Range(0.01, 1.0),
        "noise_lr": Range(0.01, 1.0),
    },
    "dm_direct": {"ridge": Range(1e-3, 1.0)},
    "dmm": {
        "lr": _ADAM,
        "ridge": Range(1e-3, 1.0),
        "ratio": Range(1.0, 30.0),
        "repeats": Range(1, 10, whole=True),
    },
    "oracle_matching": {"lr": _ADAM, "ratio": Range(1.0, 30.0)},
}


def ranges_of(method: Method, given: Ranges) -> Ranges:
    """What is tuned of a method; KlomError where there is nothing, or a range of nothing."""
    empty = inspect.Parameter.empty
    lacking = {n: None for n, v in method.hyperparameters.items() if v is empty}
    usual = {n: r for n, r in USUAL.items() if n in method.hyperparameters}
    own = {n: r for n, r in OWN.get(method.name, {}).items() if n in method.hyperparameters}
    for name in given:
        if name not in method.hyperparameters:
            known = ", ".join(method.hyperparameters) or "none"
            raise KlomError(f"--range {name}: {method.name} has the hyperparameters {known}")
    given = {n: _of_kind(r, method.hyperparameters[n]) for n, r in given.items()}
    for name, where in given.items():  # a value that does not fit is told before it is tried
        ends = where.values if isinstance(where, Choice) else (where.at(0.0), where.at(1.0))
        for value in ends:
            method.settings({**lacking, name: value}, {})
    found = {**usual, **own, **given}
    if not method.hyperparameters:
        raise KlomError(f"{method.name} has no hyperparameters: there is nothing to tune")
    if not found:
        raise KlomError(f"{method.name} has nothing to tune: say what with --range NAME=LOW..HIGH")
    return found


def _of_kind(where: Range | Choice, default: Any) -> Range | Choice:
    """Whole numbers only where the default is one."""
    if isinstance(where, Range) and type(default) in (int, float):
        return replace(where, whole=type(default) is int)
    return where


def range_in(text: str) -> tuple[str, Range | Choice]:
    """NAME=LOW..HIGH (evenly in the logarithm where LOW > 0) or NAME=A|B|C."""
    name, _, value = text.partition("=")
    try:
        if ".." in value:
            low, high = value.split("..")
            a, b = float(low), float(high)
            if not (math.isfinite(a) and math.isfinite(b) and a < b):
                raise ValueError
            whole = all(part.strip().lstrip("-").isdecimal() for part in (low, high))
            return name, Range(a, b, log=a > 0, whole=whole)
        if "|" in value and name:
            return name, Choice(tuple(_literal(part) for part in value.split("|")))
        raise ValueError
    except ValueError:
        raise KlomError(
            f"--range must be NAME=LOW..HIGH or NAME=A|B|C, as lr=1e-4..1 or k=1|2; got {text!r}"
        ) from None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        return text.strip()
