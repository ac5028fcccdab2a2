"""What a method's docstring says of it, in lines that can be checked.

    Trains: all | nothing | 4.*, 6.weight | last k [unit] | share of the weights     (default: all)
    Resets: the same words                                                    (default: nothing)
    Sees: forget and retain | forget | retain | nothing          (default: forget and retain)
    BatchNorm: frozen | updated                                   (default: nothing is said)
    Tried with: NAME VALUE, ...      (hyperparameters for the few points on which it is tried)

`4.*` are names of parameters, `k` and `share` hyperparameters of the method (or numbers, `50 %`);
`last k` are the last k blocks, the children of the network that have parameters; `last k layers`
its last k conv or linear layers and what lies behind them; a hyperparameter may name the unit.
"""

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from klom_bench.errors import KlomError, unknown
from klom_bench.methods.freezing import belongs, last
from klom_bench.methods.method import source_of

_LINE = re.compile(
    r"^\s*(Trains|Resets|Sees|BatchNorm|Tried with):\s*(.*?)\.?\s*$", re.MULTILINE | re.IGNORECASE
)
_ALLOWED = {
    "sees": ("forget and retain", "forget", "retain", "nothing"),
    "batchnorm": ("frozen", "updated"),
}


@dataclass(frozen=True)
class Claims:
    """The lines; what a docstring leaves out has its default."""

    trains: str = "all"
    resets: str = "nothing"
    sees: str = "forget and retain"
    batchnorm: str = ""
    tried_with: str = ""

    def see(self, points: str) -> bool:
        """Whether forget or retain points make a difference."""
        return points in self.sees.split()


def claims_of(function: Any) -> Claims:
    """What the docstring says; KlomError for a word that is not known."""
    doc = inspect.getdoc(source_of(function)) or ""
    said = {name.lower().replace(" ", "_"): value for name, value in _LINE.findall(doc)}
    for name, words in _ALLOWED.items():
        if name in said and said[name] not in words:
            raise KlomError(f"the docstring: {unknown(f'word after {name}:', said[name], words)}")
    return Claims(**said)


def names(claim: str, network: nn.Module, settings: Mapping[str, Any]) -> set[str]:
    """The parameters that a claim is about; KlomError where there are none of these names."""
    known = [name for name, _ in network.named_parameters()]
    if claim == "nothing":
        return set()
    if claim == "all" or share(claim, settings) is not None:
        return set(known)
    if match := re.fullmatch(r"last (\w+)(?: (\w+))?", claim):
        unit = settings.get(match[2] or "", match[2] or "blocks")
        modules = last(network, int(_value(match[1], settings)), unit)
        return {n for n in known if belongs(n, modules)}
    found: set[str] = set()
    for pattern in re.split(r"[,\s]+", claim):
        matching = {name for name in known if fnmatchcase(name, pattern)}
        if not matching:
            raise KlomError(
                f"the docstring says `{claim}`, which is none of all, nothing, `last k`, `share of "
                f"the weights` and names of parameters: {unknown('parameter', pattern, known)}"
            )
        found |= matching
    return found


def tried_with(claim: str) -> dict[str, Any]:
    """Hyperparameters that a claim gives; KlomError where it cannot be read."""
    found = {}
    for part in filter(None, re.split(r",\s*", claim)):
        name, _, value = part.replace("=", " ", 1).partition(" ")
        try:
            found[name] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise KlomError(
                f"the docstring says `Tried with: {claim}`: "
                "it must be NAME VALUE, ..., as alpha 1.5"
            ) from None
    return found


def share(claim: str, settings: Mapping[str, Any]) -> float | None:
    """The part of the weights that a claim allows to change, None where it does not say."""
    match = re.fullmatch(r"([\w.]+)\s*(%?) of the weights", claim)
    return float(_value(match[1], settings)) / (100 if match[2] else 1) if match else None


def _value(word: str, settings: Mapping[str, Any]) -> Any:
    if word in settings:
        return settings[word]
    try:
        return float(word)
    except ValueError:
        raise KlomError(
            f"the docstring names {unknown('hyperparameter', word, settings)}"
        ) from None
