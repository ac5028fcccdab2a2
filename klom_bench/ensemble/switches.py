"""Deprecated: a method takes `descent: klom_bench.Descent`, as every built-in one does."""

import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.errors import KlomError
from klom_bench.methods.descent import CHOICES, NAMES, Descent

_ACTING: WeakKeyDictionary[Ensemble, tuple[Descent, set[str]]] = WeakKeyDictionary()
"""What was asked for of a method that is running on an ensemble, and what has acted of it."""


def gradient_method(
    without: tuple[str, ...] = (), **own: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Deprecated: take `descent: Descent = Descent()` instead."""
    warnings.warn(
        "gradient_method, optimizer_for and scheduled are deprecated: take `descent: "
        "klom_bench.Descent = klom_bench.Descent()` and call descent.optimizer_for and "
        "descent.epochs",
        DeprecationWarning,
        stacklevel=2,
    )
    usual = Descent(**own)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def method(model: Ensemble, forget: Any, retain: Any, **given: Any) -> Iterator[Any]:
            asked = {name: given.pop(name) for name in NAMES if name in given}
            if model in _ACTING:  # the outer method's holds
                yield from function(model, forget, retain, **given)
                return
            descent = replace(usual, **asked)
            _ACTING[model] = descent, {"freeze_batchnorm"}
            try:
                with descent.norms_as_asked(model):
                    for result in function(model, forget, retain, **given):
                        _refuse_idle(function.__name__, descent, usual, _ACTING[model][1])
                        yield result
            finally:
                del _ACTING[model]

        signature = inspect.signature(function)
        more = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=getattr(usual, name),
                annotation=Literal[CHOICES[name]] if name in CHOICES else Any,
            )
            for name in NAMES
            if name not in without
        ]
        method.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*signature.parameters.values(), *more]
        )
        return method

    return decorate


def _refuse_idle(name: str, descent: Descent, usual: Descent, acted: set[str]) -> None:
    for field in sorted({*NAMES} - acted):
        if getattr(descent, field) != getattr(usual, field):
            raise KlomError(
                f"{name}: {field} = {getattr(descent, field)!r} has no effect, since it does not "
                "make its optimizer with `optimizer_for` and its epochs with `scheduled`"
            )


def optimizer_for(
    model: Ensemble, lr: float, momentum: float = 0.0, weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """Deprecated: `descent.optimizer_for`."""
    descent, acted = _ACTING.get(model, (Descent(), set()))
    acted |= {"optimizer", "max_norm"}
    return descent.optimizer_for(model, lr, momentum, weight_decay)


def scheduled(model: Ensemble, optimizer: torch.optim.Optimizer, epochs: int) -> Iterator[int]:
    """Deprecated: `descent.epochs`."""
    descent, acted = _ACTING.get(model, (Descent(), set()))
    acted.add("schedule")
    return descent.epochs(optimizer, epochs)
