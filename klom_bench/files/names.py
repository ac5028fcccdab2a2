"""What the names of published files say; needs nothing but the names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["checkpoint", "margins", "logits"]

_PART = r"(?P<part>train|val|retain|forget)"
_KIND = r"(?P<kind>margins|logits)"
_PATTERNS = [
    re.compile(pattern)
    for pattern in (
        r"(?P<sd>sd)_(?P<member>\d+)_+epoch_(?P<epoch>\d+)",
        rf"(?P<member>\d+)_+{_PART}_{_KIND}_+(?P<epoch>\d+)",
        rf"{_PART}_{_KIND}_(?P<member>\d+)",
        rf"{_PART}_{_KIND}(_all)?",
        r"id_(?P<member>\d+)_epoch_(?P<epoch>\d+)",
        r"(?P<member>\d+)",
        _PART,
    )
]


@dataclass(frozen=True)
class Name:
    """What a name says: "" and None for what it leaves open. No member: a row for each."""

    kind: Kind | None
    part: str
    member: int | None
    epoch: int | None


def read_name(file: str) -> Name | None:
    """The meaning of a file's name; None for a file of another kind."""
    stem, dot, suffix = file.rpartition(".")
    if suffix not in ("pt", "npy") or not dot:
        return None
    for pattern in _PATTERNS:
        if match := pattern.fullmatch(stem):
            groups = match.groupdict()
            kind: Kind | None = "checkpoint" if groups.get("sd") else groups.get("kind")  # type: ignore[assignment]
            member, epoch = (
                None if groups.get(key) is None else int(groups[key]) for key in ("member", "epoch")
            )
            return Name(kind, groups.get("part") or "", member, epoch)
    return None


def gaps(numbers: Sequence[int]) -> str:
    """Members missing in the middle of these numbers: `member 57`, `members 3, 5 to 9, ...`."""
    holes = [(a + 1, b - 1) for a, b in pairwise(sorted(numbers)) if b > a + 1]
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in holes[:3]] + ["..."] * (len(holes) > 3)
    one = len(holes) == 1 and holes[0][0] == holes[0][1]
    return f"member{'' if one else 's'} {', '.join(shown)}" if holes else ""
