"""Methods with their settings: several values of a hyperparameter make a cell of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote

from klom_bench.errors import KlomError

Param = tuple[str | None, str, tuple[Any, ...]]
"""Method (None: all), name of the hyperparameter, values."""


@dataclass(frozen=True)
class Variant:
    """A method and what is given for its hyperparameters; `setting` names what is swept of it."""

    method: str
    given: Mapping[str, Any]
    setting: str = ""

    @property
    def label(self) -> str:
        """As in the ids of tests."""
        return f"{self.method}:{self.setting}" if self.setting else self.method


def _text(value: Any) -> str:
    """A value as ids of tests, tables and logs can have it: other characters as in an address."""
    text = value if isinstance(value, str) else str(value).replace(" ", "")
    return "".join(c if c.isprintable() and c not in "%:|<>`" else quote(c) for c in text)


def variants(methods: Iterable[str], params: Sequence[Param], said: str) -> dict[str, Variant]:
    """By label: every method with every combination of the values given for it.

    KlomError for a value of a method that is not there. said: where values were given, in words.
    """
    methods = tuple(methods)
    for owner, name, values in params:
        if owner not in (None, *methods):
            raise KlomError(
                f"{said} {owner}.{name}={','.join(map(str, values))}: {owner!r} is not among the "
                f"methods selected: {', '.join(methods)}"
            )
    found: dict[str, Variant] = {}
    for method in methods:
        of: dict[str, tuple[Any, ...]] = {}
        for wanted in (None, method):  # what is said of one method wins
            of |= {name: values for owner, name, values in params if owner == wanted}
        of = dict(sorted(of.items()))  # labels do not depend on the order in which they are given
        for combination in product(*of.values()):
            given = dict(zip(of, combination, strict=True))
            swept = [f"{n}={_text(v)}" for n, v in given.items() if len(of[n]) > 1]
            variant = Variant(method, given, ",".join(swept))
            found[variant.label] = variant
    return found
