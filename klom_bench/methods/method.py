"""A method as the harness sees it: a function, its hyperparameters and what else it needs."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

from klom_bench.errors import KlomError, unknown

NEEDS = ("task", "oracles", "datamodels")
"""Keyword-only parameters that the harness fills in; all others are hyperparameters."""

Function = TypeVar("Function", bound=Callable[..., Any])


def applies_to(*, conv: bool = False, class_wise: bool = False) -> Callable[[Function], Function]:
    """Say of a method that it needs conv layers, or forget sets that are a whole class.

    Tests of other tasks or sets are skipped with the reason.
    """

    def mark(function: Function) -> Function:
        vars(function).update(needs_conv=conv, class_wise_only=class_wise)
        return function

    return mark


def may_spare_members(function: Function) -> Function:
    """Say of a method that it may leave some members as they are, though never all."""
    vars(function)["may_spare_members"] = True
    return function


@dataclass(frozen=True)
class Method:
    """hyperparameters: name -> default; inspect.Parameter.empty where a value must be given.

    choices: name -> values, where the annotation is a Literal. needs: of NEEDS. needs_conv,
    class_wise_only: see `applies_to`; spares_members: `may_spare_members`.
    """

    name: str
    function: Callable[..., Iterator[Any]]
    hyperparameters: Mapping[str, Any]
    choices: Mapping[str, tuple[Any, ...]]
    needs: tuple[str, ...]
    changes_nothing: bool
    needs_conv: bool
    class_wise_only: bool
    spares_members: bool

    @property
    def sees_oracles(self) -> bool:
        """Whether its scores are an upper bound: nobody has oracles where unlearning is needed."""
        return "oracles" in self.needs

    def settings(
        self, given: Mapping[str, Any], task_defaults: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All hyperparameters: the method's defaults, the task's over them, given ones over both.

        KlomError for one that the method does not have, lacks a value, or is of the wrong type.
        """
        values = {**self.hyperparameters, **task_defaults, **given}
        for name, value in values.items():
            if name not in self.hyperparameters:
                raise KlomError(
                    f"{self.name}: {unknown('hyperparameter', name, self.hyperparameters)}"
                )
            if value is inspect.Parameter.empty:
                raise KlomError(
                    f"{self.name} needs a value for {name}: --klom-param {self.name}.{name}=VALUE"
                )
        return {name: self._fitting(name, value) for name, value in values.items()}

    def _fitting(self, name: str, value: Any) -> Any:
        default = self.hyperparameters[name]
        if name in self.choices and value not in self.choices[name]:
            raise KlomError(f"{self.name}: {unknown(name, str(value), self.choices[name])}")
        if default is None or default is inspect.Parameter.empty:
            return value
        if isinstance(default, float) and type(value) is int and abs(value) < 2**53:
            return float(value)
        if isinstance(default, tuple) and isinstance(value, list):
            return tuple(value)  # as JSON has it
        if type(value) is not type(default):
            raise KlomError(
                f"{self.name}: {name} must be of type {type(default).__name__} as its default "
                f"{default!r} is, got {value!r} ({type(value).__name__})"
            )
        return value


def method_of(name: str, function: Any) -> Method:
    """The method that a fixture gave; KlomError where it cannot be called as one."""
    shape = f"def {name}(model, forget, retain, *, lr=0.01, ...)"
    if not callable(function):
        raise KlomError(
            f"the fixture {name!r} gave {function!r}, not an unlearning function: "
            f"return one of the form {shape}"
        )
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    if len(positional) != 3 or len(positional) + len(keywords) != len(parameters):
        raise KlomError(
            f"the method {name!r} has the parameters {inspect.signature(function)}; it needs three "
            f"positional ones, hyperparameters by keyword only, and no *args or **kwargs: {shape}"
        )
    return Method(
        name=name,
        function=function,
        hyperparameters={p.name: p.default for p in keywords if p.name not in NEEDS},
        choices={
            p.name: get_args(p.annotation) for p in keywords if get_origin(p.annotation) is Literal
        },
        needs=tuple(p.name for p in keywords if p.name in NEEDS),
        changes_nothing=bool(getattr(function, "changes_nothing", False)),
        needs_conv=bool(getattr(function, "needs_conv", False)),
        class_wise_only=bool(getattr(function, "class_wise_only", False)),
        spares_members=bool(getattr(function, "may_spare_members", False)),
    )
