"""A method as the harness sees it: a function, its hyperparameters, its traits, what it needs."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args, get_origin

from klom_bench.errors import KlomError, unknown
from klom_bench.methods.descent import CHOICES, NAMES, Descent
from klom_bench.methods.ranges import Ranges

NEEDS = ("task", "oracles", "datamodels")
"""Keyword-only parameters that the harness fills in; others, but `descent`, are hyperparameters."""


@dataclass(frozen=True)
class Traits:
    """What a method says of itself beside its signature.

    Args:
        conv: it needs conv layers. Tests of other tasks are skipped with the reason.
        class_wise: it unlearns forget sets that are a whole class only. Others are skipped.
        classes: it needs classes: logits and labels, not numbers or several labels a point.
        moves_inputs: it moves inputs by small steps, which token ids and several tensors are not
            for.
        spares_members: it may leave some members as they are, though never all.
        changes_nothing: it is a control, which leaves all as they are.
        retrains: it trains as the task does. Tests of tasks whose models come from elsewhere are
            skipped.
        tune: where `klom tune` looks for its hyperparameters.
    """

    conv: bool = False
    class_wise: bool = False
    classes: bool = False
    moves_inputs: bool = False
    spares_members: bool = False
    changes_nothing: bool = False
    retrains: bool = False
    tune: Ranges = field(default_factory=dict)

    @property
    def only(self) -> list[str]:
        """Where it applies, in words; nothing where it does everywhere."""
        return (
            ["conv layers"] * self.conv
            + (["whole classes"] if self.class_wise else ["classes"] * self.classes)
            + ["inputs that are real numbers"] * self.moves_inputs
            + ["tasks that train"] * self.retrains
        )


@dataclass(frozen=True, eq=False)
class Method:
    """An unlearning method; called like the function that it was made of.

    hyperparameters: name -> default; inspect.Parameter.empty where a value must be given.
    choices: name -> values, where there are only so many. needs: of NEEDS.
    """

    name: str
    function: Callable[..., Any]
    hyperparameters: Mapping[str, Any]
    choices: Mapping[str, tuple[Any, ...]]
    needs: tuple[str, ...]
    descends: bool
    traits: Traits = Traits()

    def __post_init__(self) -> None:
        own = {
            n: getattr(self.function, n, None) for n in ("__doc__", "__module__", "__qualname__")
        }
        vars(self).update(own, __wrapped__=self.function)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, model: Any, forget: Any, retain: Any, /, **given: Any) -> Any:
        """What the function gives, with the defaults of this method; `descent` or its fields."""
        empty = inspect.Parameter.empty
        values = {n: v for n, v in self.hyperparameters.items() if v is not empty} | given
        if not self.descends:
            return self.function(model, forget, retain, **values)
        if "descent" in given and (twice := {*given} & {*NAMES}):
            raise TypeError(f"{self.name}: `descent` has {', '.join(sorted(twice))} already")
        fields = {name: values.pop(name) for name in NAMES if name in values}
        descent = values.setdefault("descent", Descent(**{"schedule": None, **fields}))
        steps = self.function(model, forget, retain, **values)
        if not isinstance(steps, Iterator):
            return steps  # a function that is no generator: the harness says so
        return _with_norms(descent, model, steps)

    @property
    def built_in(self) -> bool:
        """Whether it is one of this package."""
        home = getattr(self.function, "__module__", None) or ""
        return home.partition(".")[0] == __package__.partition(".")[0]

    @property
    def sees_oracles(self) -> bool:
        """Whether its scores are an upper bound: nobody has oracles where unlearning is needed."""
        return "oracles" in self.needs

    def values(self, given: Mapping[str, Any], task_defaults: Mapping[str, Any]) -> dict[str, Any]:
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
        if isinstance(default, float) and type(value) is int and abs(value) < 2**53:  # exactly
            return float(value)
        if isinstance(default, tuple) and isinstance(value, list):
            return tuple(value)  # as JSON has it
        if type(value) is not type(default):
            raise KlomError(
                f"{self.name}: {name} must be of type {type(default).__name__} as its default "
                f"{default!r} is, got {value!r} ({type(value).__name__})"
            )
        return value


def _with_norms(descent: Descent, model: Any, steps: Iterator[Any]) -> Iterator[Any]:
    with descent.norms_as_asked(model):
        yield from steps


def method(
    *,
    conv: bool = False,
    class_wise: bool = False,
    classes: bool = False,
    moves_inputs: bool = False,
    spares_members: bool = False,
    changes_nothing: bool = False,
    retrains: bool = False,
    tune: Ranges | None = None,
) -> Callable[[Callable[..., Any]], Method]:
    """Make a method of a generator function, and say of it what `Traits` has.

    A function without traits is a method as it is; a fixture may return either.

    Args:
        conv, class_wise, classes, moves_inputs, spares_members, changes_nothing, retrains, tune:
            see `Traits`.

    Returns:
        A decorator that gives a `Method`, which is called like the function.

    Raises:
        KlomError: the function cannot be called as a method.

    Example:
        >>> from klom_bench import method
        >>> @method(changes_nothing=True)
        ... def control(model, forget, retain, *, epochs=1):
        ...     for _ in range(epochs):
        ...         yield
        >>> control.hyperparameters
        {'epochs': 1}
    """
    traits = Traits(
        conv,
        class_wise,
        classes,
        moves_inputs,
        spares_members,
        changes_nothing,
        retrains,
        tune or {},
    )

    def decorate(function: Callable[..., Any]) -> Method:
        name = getattr(function, "__name__", None)
        if name is None:
            raise KlomError(f"{function!r} has no name: @klom_bench.method is for functions")
        made = method_of(name, function)
        for tuned in traits.tune:
            if tuned not in made.hyperparameters:
                known = made.hyperparameters
                raise KlomError(f"{name}: tune: {unknown('hyperparameter', tuned, known)}")
        return replace(made, traits=_both(made.traits, traits))

    return decorate


def _both(a: Traits, b: Traits) -> Traits:
    """What either says."""
    return Traits(
        a.conv or b.conv,
        a.class_wise or b.class_wise,
        a.classes or b.classes,
        a.moves_inputs or b.moves_inputs,
        a.spares_members or b.spares_members,
        a.changes_nothing or b.changes_nothing,
        a.retrains or b.retrains,
        {**a.tune, **b.tune},
    )


def method_of(name: str, given: Any) -> Method:
    """The method that a fixture gave; KlomError where it cannot be called as one."""
    shape = f"def {name}(model, forget, retain, *, lr=0.01, ...)"
    if isinstance(given, Method):
        return given if given.name == name else replace(given, name=name)
    if isinstance(given, partial) and isinstance(given.func, Method) and not given.args:
        return _with_defaults(replace(given.func, name=name), given.keywords)
    if not callable(given):
        raise KlomError(
            f"the fixture {name!r} gave {given!r}, not an unlearning function: "
            f"return one of the form {shape}"
        )
    parameters = inspect.signature(given).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    if len(positional) != 3 or len(positional) + len(keywords) != len(parameters):
        raise KlomError(
            f"the method {name!r} has the parameters {inspect.signature(given)}; it needs three "
            f"positional ones, hyperparameters by keyword only, and no *args or **kwargs: {shape}"
        )
    needs = tuple(n for n in keywords if n in NEEDS)
    default = keywords["descent"].default if "descent" in keywords else None
    descent = default if isinstance(default, Descent) else None
    if descent:
        del keywords["descent"]
    own = {n: p for n, p in keywords.items() if n not in NEEDS}
    if descent and (twice := {*own} & {*NAMES}):
        raise KlomError(
            f"the method {name!r} takes `descent`, which has {', '.join(sorted(twice))}: leave "
            "these out"
        )
    switches = descent.hyperparameters if descent else {}
    choices = {
        n: get_args(p.annotation) for n, p in own.items() if get_origin(p.annotation) is Literal
    }
    return Method(
        name=name,
        function=given,
        hyperparameters={n: p.default for n, p in own.items()} | switches,
        choices=choices | {n: of for n, of in CHOICES.items() if n in switches},
        needs=needs,
        descends=descent is not None,
        traits=_traits(given),
    )


def source_of(function: Any) -> Any:
    """The function that was written: without partial and decorators."""
    while isinstance(function, partial):
        function = function.func
    return inspect.unwrap(function)


def _with_defaults(method: Method, given: Mapping[str, Any]) -> Method:
    """The method with other defaults; what the harness fills in is not for others to give."""
    values = {n: v for n, v in given.items() if n not in NEEDS}
    if isinstance(descent := values.pop("descent", None), Descent):
        values = {**descent.hyperparameters, **values}
    for name in values:
        if name not in method.hyperparameters:
            raise KlomError(
                f"{method.name}: {unknown('hyperparameter', name, method.hyperparameters)}"
            )
    return replace(method, hyperparameters={**method.hyperparameters, **values})


def _traits(function: Any) -> Traits:
    """Those of the method that a function wraps, or those that older code wrote on the function."""
    while function is not None:
        if isinstance(function, Method):
            return function.traits
        marked = getattr(function, "klom_traits", Traits())
        if getattr(function, "changes_nothing", False):
            return replace(marked, changes_nothing=True)
        if marked != Traits():
            return marked
        is_partial = isinstance(function, partial)
        function = function.func if is_partial else getattr(function, "__wrapped__", None)
    return Traits()


def applies_to(*, conv: bool = False, class_wise: bool = False) -> Callable[[Any], Any]:
    """Deprecated: `klom_bench.method(conv=..., class_wise=...)` takes its place."""
    warnings.warn(
        "applies_to is deprecated: say @klom_bench.method(conv=..., class_wise=...)",
        DeprecationWarning,
        stacklevel=2,
    )

    def mark(function: Any) -> Any:
        traits = Traits(conv=conv, class_wise=class_wise)
        if isinstance(function, Method):
            return replace(function, traits=_both(function.traits, traits))
        vars(function)["klom_traits"] = traits
        return function

    return mark
