"""members/17.json: what is known of one member, and checksums of its files as they lie.

It is written last, once, and never changed: a member whose file is there is whole.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from klom_bench.errors import KlomError
from klom_bench.files import atomic
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId

MEMBERS = "members"
MALFORMED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
"""What reading a damaged file of ours raises."""
FILE = re.compile(r"\w[\w.-]*")
EPOCH = re.compile(r"\d+(?=\.\w+$)")
ORIGIN = ("file", "sha256", "pattern", "number", "when")
"""What is kept of where an imported member came from."""


@dataclass(frozen=True)
class Member:
    """One whole member: checksum a file, accuracy a split, mean |margin|, seconds of training.

    accuracy: None where nothing is right or wrong. seconds: None where a killed run left weights
    and did not say. made_with: what computed its margins. examples: how many training has seen,
    None where that is all points in each epoch, or was not said. imported: of one that came from
    elsewhere its file and the checksum of that, the pattern and number by which it was found, when.
    """

    files: Mapping[str, str]
    accuracy: Mapping[str, float | None]
    margin_size: float
    seconds: float | None
    made_with: str
    examples: int | None = None
    imported: Mapping[str, Any] | None = None


def numbers_in(folder: Path) -> set[int]:
    """Members that have a file of their own in the folder of an ensemble; none is opened."""
    try:
        names = [path.name.split(".") for path in (folder / MEMBERS).iterdir()]
    except FileNotFoundError:
        return set()
    return {int(n) for n, *more in names if more == ["json"] and n.isdecimal() and n == f"{int(n)}"}


def read_all(folder: Path) -> dict[int, Member]:
    """All that have a file of their own; KlomError where one cannot be read."""
    return read(folder, numbers_in(folder))


def read(folder: Path, numbers: Iterable[int]) -> dict[int, Member]:
    """Members with these numbers; KlomError where the file of one cannot be read."""
    found = {}
    for i in sorted(numbers):
        path = folder / MEMBERS / f"{i}.json"
        try:
            stat = path.stat()
            found[i] = _read(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        except MALFORMED as error:
            raise unreadable(path, f"{type(error).__name__}: {error}") from error
    return found


@lru_cache(maxsize=100_000)
def _read(path: Path, *unchanged: int) -> Member:
    """A process reads each of these files once."""
    return parsed(int(path.stem), json.loads(path.read_bytes()))


def unreadable(path: Path, reason: str) -> KlomError:
    """What to say of a member's file that is not what it should be."""
    return KlomError(
        f"{path} cannot be read ({reason}): restore it, or remove this one file: the next run "
        "makes it anew from the member's weights"
    )


def write(folder: Path, number: int, member: Member) -> None:
    """Say that a member is whole, unless another process has said so before."""
    (folder / MEMBERS).mkdir(exist_ok=True)
    usual = {"examples": None, "imported": None}
    said = {n: v for n, v in asdict(member).items() if n not in usual or v is not None}
    content = json.dumps(said, indent=1).encode()
    atomic.write_first(folder / MEMBERS / f"{number}.json", content)


def file_of(member: Member, name: str) -> str:
    """The name under which a member has such a file; "" where it has none.

    In that of an imported one stands the last epoch that its task had then, which says nothing.
    """
    if member.imported is None:
        return name if name in member.files else ""
    return next((n for n in member.files if EPOCH.sub("", n) == EPOCH.sub("", name)), "")


def has_all(number: int, member: Member, ensemble: EnsembleId) -> bool:
    """Whether a member's files are those that a member of the ensemble has."""
    margins = (ensemble.margins_file(number, part) for part in PARTS)
    return all(file_of(member, name) for name in (ensemble.checkpoint_file(number), *margins))


def parsed(number: int, content: Any) -> Member:
    """A member in JSON; an exception that says what is not what it should be."""
    member = Member(**content)
    check_texts(number, "files", member.files.values())
    for name in member.files:
        if not FILE.fullmatch(name):
            raise ValueError(f"{name!r:.40} of member {number} is no name of a file")
    if not {"retain", "val"} <= {*member.accuracy}:
        raise ValueError(f"member {number} lacks an accuracy")
    for split, value in member.accuracy.items():
        if value is not None:
            check_number(f"accuracy {split} of member {number}", value, 1.0)
    check_number(f"margin_size of member {number}", member.margin_size)
    if member.seconds is not None:
        check_number(f"seconds of member {number}", member.seconds)
    if member.examples is not None:
        check_number(f"examples of member {number}", member.examples)
    check_texts(number, "made_with", [member.made_with])
    if member.imported is not None:
        check_texts(
            number, "imported", [member.imported[name] for name in ORIGIN if name != "number"]
        )
        check_number(f"imported of member {number}", member.imported["number"])
    return member


def check_number(name: str, value: Any, most: float = 1e300) -> None:
    """ValueError for what is no finite number from 0 to `most`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 <= value <= most and math.isfinite(value)):
        raise ValueError(f"{name} is {value!r:.40}")


def check_texts(number: int, name: str, values: Iterable[Any]) -> None:
    """TypeError for what is no text."""
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{name} of member {number} is {value!r:.40}")
