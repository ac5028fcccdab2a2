"""What a store holds, told from its folders without opening a file of a model."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from klom_bench.errors import KlomError, visible
from klom_bench.forget_set import ForgetSet
from klom_bench.published.find import find
from klom_bench.store.manifest import says_imported
from klom_bench.store.members import MEMBERS, numbers_in
from klom_bench.store.stale import ASIDE
from klom_bench.tasks.ensemble_id import EnsembleId, Role
from klom_bench.tasks.task import Task

TRAINED, IMPORTED = "trained here", "imported"
MOVED, DAMAGED = "moved aside, stale", "damaged manifest.json"


@dataclass(frozen=True)
class Holding:
    """One ensemble that is there."""

    task: str
    role: str
    forget_set: str | None
    seed: int
    members: int
    bytes: int
    made: str
    folder: str

    @property
    def ours(self) -> bool:
        """Whether it was trained here or imported, rather than published."""
        return self.made in (TRAINED, IMPORTED, MOVED, DAMAGED)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def survey(root: Path, tasks: Mapping[str, Task]) -> list[Holding]:
    """All ensembles of a store: ours by their manifests, published ones by looking."""
    own = list(_own(root))
    published = [holding for task in tasks.values() for holding in _published(root, task)]
    return sorted([*own, *published], key=lambda h: (h.task, h.seed, _natural(h.forget_set or "")))


def _own(root: Path) -> Iterator[Holding]:
    moved = [folder for folder in sorted((root / ASIDE).glob("*")) if folder.is_dir()]
    for above in [root, *moved]:
        made = TRAINED if above == root else MOVED
        for place in folders_of_ours(above):
            yield _of_ours(root, above / place / "manifest.json", made)


def folders_of_ours(root: Path) -> Iterator[str]:
    """Folders of ensembles that were trained here, relative to the store."""
    for tree in [root, *sorted(root.glob("seed_*"))]:
        for pattern in ("full_models/*", "oracles/*/*", "random_halves/*"):
            for path in sorted(tree.glob(f"{pattern}/manifest.json")):
                yield path.parent.relative_to(root).as_posix()


def _of_ours(root: Path, path: Path, made: str) -> Holding:
    folder = path.parent.relative_to(root).as_posix()
    try:
        content = json.loads(path.read_bytes())
        identity = content["identity"]
        if not isinstance(identity["forget_set"], str | None):
            raise TypeError("the name of its forget set is no text")
        return Holding(
            task=visible(str(identity["task"])),
            role=visible(str(identity["role"])),
            forget_set=identity["forget_set"] and visible(identity["forget_set"]),
            seed=int(identity["seed"]),
            members=len(numbers_in(path.parent) | {int(i) for i in content.get("members", {})}),
            bytes=_size(path.parent) + _size(path.parent / MEMBERS),
            made=IMPORTED if made == TRAINED and says_imported(identity) else made,
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return Holding("?", "?", None, 0, 0, 0, DAMAGED, folder)


def _size(folder: Path) -> int:
    total = 0
    for entry in os.scandir(folder) if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # somebody is writing
            total += entry.stat().st_size if entry.is_file() else 0
    return total


def _published(root: Path, task: Task) -> Iterator[Holding]:
    names = {*task.forget_sets}
    for above in ("oracles", "oracle_models"):
        for folder in sorted((root / above / task.folder).glob("*")):
            if folder.is_dir() and folder.name != "only_margins":
                names.add(folder.name)
    for forget_set in [None, *(_of_this_size(task, name) for name in names)]:
        role: Role = "original" if forget_set is None else "oracle"
        ensemble = EnsembleId(task, role, 0, forget_set)
        try:
            found = find(root, ensemble)
            if found is None:
                continue
            made = "published"
            if not found.members:
                made += ", no checkpoints" if found.scored else ", not whole"
            members, where = len(found.scored), found.folder.relative_to(root).as_posix()
            size = sum(found.family.sizes.values())
        except KlomError as error:
            made, members, where, size = f"unreadable: {error}", 0, "", 0
        named = None if forget_set is None else forget_set.name
        yield Holding(task.name, ensemble.role, named, 0, members, size, made, where)


def _of_this_size(task: Task, name: str) -> ForgetSet:
    """A set whose indices do not matter here, and may not be known."""
    size = task.size(name) if name in task.forget_sets else 0
    return ForgetSet(name, np.arange(size), task.train_points, np.arange(size))


def _natural(name: str) -> tuple[str, int]:
    """forget_set_2 before forget_set_10."""
    stem = name.rstrip("0123456789")
    number = name[len(stem) :]
    return stem, int(number or 0)
