"""Which files of a repository are needed, told from their names and sizes."""

from itertools import product

from klom_bench.errors import KlomError
from klom_bench.files.names import Kind
from klom_bench.published.layouts import ARRAYS, Coverage, Family, Key, complete
from klom_bench.tasks.ensemble_id import PARTS

HEADER = 2048
"""Bytes of a file beyond its numbers, at most (a tensor's is about 1,200)."""


def needed(family: Family, members: int) -> list[str]:
    """The files to download of the first members that are whole: checkpoints of originals, which
    are unlearned; of all, margins, else logits, else checkpoints."""
    held = complete(family, BY_SIZE)
    chosen = held.members[:members]
    if not chosen:
        raise KlomError(
            f"the published {family.ensemble.label} are not whole there, so that none can be used: "
            "train them instead"
        )
    files, is_oracle = family.files, family.ensemble.role == "oracle"
    wanted: set[str] = set()
    for part, member in product(PARTS, chosen):
        kind = next((kind for kind in ARRAYS if member in held.arrays[kind, part]), None)
        if kind is None:
            wanted.add(files["checkpoint", "", member])
            continue
        whole_part: list[Key] = [(kind, part, member)]
        both: list[Key] = [(kind, "retain", member), (kind, "forget", member)]
        paths = [files[key] for key in whole_part if key in files]
        if not paths and part == "train":
            paths = [files[key] for key in both if key in files]
        wanted |= {*(paths or [files[kind, part, None]])}
    if not is_oracle:
        wanted |= {files["checkpoint", "", member] for member in chosen}
    return sorted(wanted)


def _rows(family: Family, kind: Kind, part: str) -> int:
    """Members in a file of all, by its size: float32 numbers and a little more."""
    path = family.files.get((kind, part, None))
    if path is None:
        return 0
    n = family.points(part)
    if n is None:  # how many val points there are, only the data tell: as many members as for train
        return _rows(family, kind, "train")
    size = family.sizes[path]
    number = 4 * (1 if kind == "margins" else family.ensemble.task.classes)
    retain = family.points("retain") or n
    if retain != n and size % (number * retain) <= HEADER:
        return 0  # it may well be retain-only
    return size // (number * n) if size % (number * n) <= HEADER else 0


def _fits(family: Family, kind: Kind, part: str) -> bool:
    """Whether a member's file is large enough for all points: retain-only ones are not."""
    first = family.files[kind, part, min(family.members(kind, part))]
    n = family.points(part)
    classes = 1 if kind == "margins" else family.ensemble.task.classes
    return n is None or part == "val" or family.sizes[first] >= 2 * n * classes


BY_SIZE = Coverage(_rows, _fits)
