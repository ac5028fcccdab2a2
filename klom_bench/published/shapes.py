"""Which points the files of a store cover, told from the shapes of their arrays."""

from functools import partial
from pathlib import Path

from klom_bench.errors import KlomError
from klom_bench.files.arrays import shape_of
from klom_bench.files.names import Kind
from klom_bench.published.layouts import Coverage, Family


def by_shape(root: Path) -> Coverage:
    """What files below this folder cover; they are opened for their shapes alone."""
    return Coverage(partial(_rows, root), partial(_fits, root))


def _rows(root: Path, family: Family, kind: Kind, part: str) -> int:
    """By the shape of the file of all members."""
    path = family.files.get((kind, part, None))
    if path is None:
        return 0
    shape = shape_of(root / path)
    if len(shape) != (2 if kind == "margins" else 3):
        raise KlomError(f"{root / path} has shape {shape}: [members, points, ...] is expected")
    return shape[0] if family.points(part) in (None, shape[1]) else 0


def _fits(root: Path, family: Family, kind: Kind, part: str) -> bool:
    """By the shape of the first file: retain-only margins do not cover all train points."""
    first = min(family.members(kind, part))
    shape = shape_of(root / family.files[kind, part, first])
    retain_only = None if family.ensemble.forget_set is None else family.points("retain")
    return part == "val" or shape[0] != retain_only or shape[0] == family.points(part)
