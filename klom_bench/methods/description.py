"""What a method's docstring says of where it is from and what it costs, by its labels."""

import inspect
import re
from dataclasses import dataclass

from klom_bench.methods.method import Method, source_of

_LABELS = ("Paper", "Code", "Departures", "Defaults", "Costs", "Trains", "Resets", "Sees")
_LABEL = re.compile(rf"^({'|'.join((*_LABELS, 'BatchNorm', 'Tried with'))}):\s*", re.MULTILINE)


@dataclass(frozen=True)
class Description:
    """The labels of a docstring, "" where one is missing.

    rule: its first line. paper: who, year, number. code: whose public code it equals, and the
    largest difference found. departures: from that code. defaults: where each is from. costs:
    examples seen, a formula in F and R, the numbers of points, and hyperparameters. sees: of forget
    and retain.
    """

    rule: str
    paper: str = ""
    code: str = ""
    departures: str = ""
    defaults: str = ""
    costs: str = ""
    sees: str = "forget and retain"

    @property
    def year(self) -> str:
        """Of the paper."""
        found = re.search(r"\b(?:19|20)\d\d\b", self.paper)
        return found[0] if found else ""

    @property
    def repository(self) -> str:
        """Of the code, as owner/name; "" where it is none or unnamed."""
        found = re.search(r"\b[\w.-]+/[\w.-]+", self.code.partition(":")[0])
        return found[0].rstrip(".") if found else ""


def described(method: Method) -> Description:
    """What its docstring says."""
    text = inspect.getdoc(source_of(method.function)) or ""
    head, *parts = _LABEL.split(text)
    said = {
        label.lower(): " ".join(value.split()).removesuffix(".")
        for label, value in zip(parts[::2], parts[1::2], strict=True)
    }
    known = {name: said[name] for name in Description.__dataclass_fields__ if name in said}
    return Description(head.partition("\n")[0], **known)
