"""What is tuned of a method: the usual ranges, its own, and those of the command line."""

import inspect
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from klom_bench.errors import KlomError
from klom_bench.found import method_named
from klom_bench.literals import literal
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import Method
from klom_bench.methods.ranges import BATCHES, Choice, Range, Ranges

USUAL: Ranges = {
    "lr": Range(1e-4, 1.0),
    "epochs": Range(1, 10, whole=True),
    "batch_size": BATCHES,
}
"""Of methods that say nothing else; 10 epochs on R are half of a retraining of `digits`."""


def what_is_tuned(names: Iterable[str], given: Ranges) -> list[tuple[Method, Ranges]]:
    """Methods by name, each with its ranges; `all` are the built-in ones that can be tuned."""
    every = [n for n, m in BUILT_IN.items() if m.traits.tune or {*USUAL} & {*m.hyperparameters}]
    asked = dict.fromkeys(n for name in names for n in (every if name == "all" else [name]))
    methods = [method_named(name) for name in asked]
    for name in given:
        if not any(name in method.hyperparameters for method in methods):
            ranges_of(methods[0], given)  # says what it has
    return [
        (m, ranges_of(m, {n: r for n, r in given.items() if n in m.hyperparameters}))
        for m in methods
    ]


def ranges_of(method: Method, given: Ranges) -> Ranges:
    """What is tuned of a method; KlomError where there is nothing, or a range of nothing."""
    empty = inspect.Parameter.empty
    lacking = {n: None for n, v in method.hyperparameters.items() if v is empty}
    usual = {n: r for n, r in USUAL.items() if n in method.hyperparameters}
    for name in given:
        if name not in method.hyperparameters:
            known = ", ".join(method.hyperparameters) or "none"
            raise KlomError(f"--range {name}: {method.name} has the hyperparameters {known}")
    given = {n: _of_kind(r, method.hyperparameters[n]) for n, r in given.items()}
    for name, where in given.items():  # a value that does not fit is told before it is tried
        ends = where.values if isinstance(where, Choice) else (where.at(0.0), where.at(1.0))
        for value in ends:
            method.values({**lacking, name: value}, {})
    found = {**usual, **method.traits.tune, **given}
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
            return name, Choice(tuple(literal(part) for part in value.split("|")))
        raise ValueError
    except ValueError:
        raise KlomError(
            f"--range must be NAME=LOW..HIGH or NAME=A|B|C, as lr=1e-4..1 or k=1|2; got {text!r}"
        ) from None
