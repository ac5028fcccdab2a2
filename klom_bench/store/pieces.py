"""Which file holds what in the published layouts, told from paths alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from klom_bench.store.layout import EnsembleId
from klom_bench.store.names import Kind, read_name

Key = tuple[Kind, str, int | None]
"""(kind, part, member): parts are train, val, retain and forget, "" for checkpoints; member None
stands for a file of all members, a row each."""


@dataclass(frozen=True)
class Place:
    """A folder that may hold files of an ensemble; kind and part where its path says them."""

    folder: str
    kind: Kind | None = None
    part: str = ""


def places(ensemble: EnsembleId) -> list[Place]:
    """Where the published layouts put an ensemble, relative to the root; subfolders included."""
    if ensemble.seed:
        return []
    task, lower = ensemble.task.folder, ensemble.task.folder.lower()
    if ensemble.forget_set is None:
        upper = [Place(f"full_models/{task}")]
        path = f"{lower}/pretrain"
        parts = {"train": "retain", "val": "val"}  # "retain" is all train points there
    else:
        name = ensemble.forget_set.name
        upper = [
            Place(f"{root}/{task}/{middle}{name}")
            for root in ("oracles", "oracle_models")
            for middle in ("", "only_margins/")
        ]
        path = f"{lower}/oracle/{name.replace('forget_set_', 'forget_')}"
        parts = {"retain": "retain", "forget": "forget", "val": "val"}
    arrays = [
        Place(f"{kind}/{path}/{folder}", kind, part)
        for kind in ("margins", "logits")
        for part, folder in parts.items()
    ]
    return [*upper, Place(f"models/{path}", "checkpoint"), *arrays]


@dataclass(frozen=True)
class Pieces:
    """The files of one ensemble at its last epoch, by what they hold; other epochs left aside.

    sizes: bytes a file, by path relative to the root.
    """

    files: Mapping[Key, str]
    sizes: Mapping[str, int]
    other_epochs: tuple[int, ...]

    def members(self, kind: Kind, part: str = "") -> set[int]:
        """Members with a file of their own."""
        return {m for k, p, m in self.files if (k, p) == (kind, part) and m is not None}

    @property
    def numbers(self) -> list[int]:
        """Members that any file belongs to."""
        return sorted({m for _, _, m in self.files if m is not None})


def pieces_of(ensemble: EnsembleId, found: Iterable[tuple[Place, str, int]]) -> Pieces:
    """Sort files, given as (place, path relative to the root, bytes), by what they hold."""
    last = ensemble.task.recipe.epochs - 1
    files: dict[Key, str] = {}
    sizes: dict[str, int] = {}
    others: set[int] = set()
    for place, path, size in found:
        name = read_name(PurePosixPath(path).name)
        kind = (name and name.kind) or place.kind
        if name is None or kind is None:
            continue
        key = (kind, name.part or place.part, name.member)
        if name.epoch not in (None, last):
            others.add(name.epoch)
        elif key not in files:  # the first place wins
            files[key], sizes[path] = path, size
    return Pieces(files, sizes, tuple(sorted(others)))
