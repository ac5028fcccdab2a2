"""Methods with their settings: `--klom-param lr=1e-4,1e-3` makes a test of each."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from urllib.parse import quote

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


def variants(methods: Iterable[str], params: Sequence[Param]) -> dict[str, Variant]:
    """By label: every method with every combination of the values given for it."""
    found: dict[str, Variant] = {}
    for method in methods:
        values: dict[str, tuple[Any, ...]] = {}
        for wanted in (None, method):  # what is said of one method wins
            values |= {name: of for owner, name, of in params if owner == wanted}
        values = dict(sorted(values.items()))  # labels do not depend on the order of options
        for combination in product(*values.values()):
            given = dict(zip(values, combination, strict=True))
            swept = [f"{n}={_text(v)}" for n, v in given.items() if len(values[n]) > 1]
            variant = Variant(method, given, ",".join(swept))
            found[variant.label] = variant
    return found
