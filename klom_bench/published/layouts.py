"""Which file holds what in the published layouts, told from paths and sizes alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath

from klom_bench.errors import KlomError
from klom_bench.files.names import Kind, read_name
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId

Key = tuple[Kind, str, int | None]
"""(kind, part, member): parts are train, val, retain and forget, "" for checkpoints; member None
stands for a file of all members, a row each."""

ARRAYS: tuple[Kind, ...] = ("margins", "logits")


@dataclass(frozen=True)
class Place:
    """A folder that may hold files of an ensemble; kind and part where its path says them.

    family: files of one family belong together. Those of another may be of other models, so that
    an ensemble is never put together from two.
    """

    family: str
    folder: str
    kind: Kind | None = None
    part: str = ""


def places(ensemble: EnsembleId) -> list[Place]:
    """Where the published layouts put an ensemble, relative to the root."""
    if ensemble.seed or ensemble.is_half:
        return []
    task, lower = ensemble.task.folder, ensemble.task.folder.lower()
    if ensemble.forget_set is None:
        card = [Place("full_models", f"full_models/{task}")]
        path = f"{lower}/pretrain"
        parts = {"train": "retain", "val": "val"}  # "retain" is all train points there
    else:
        name = ensemble.forget_set.name
        card = [
            Place(root, f"{root}/{task}/{middle}{name}")
            for root in ("oracles", "oracle_models")
            for middle in ("", "only_margins/")
        ]
        path = f"{lower}/oracle/{name.replace('forget_set_', 'forget_')}"
        parts = {"retain": "retain", "forget": "forget", "val": "val"}
    architecture = ensemble.task.architecture_name
    easydub = [Place("easydub", f"models/{path}/{architecture}", "checkpoint")] + [
        Place("easydub", f"{kind}/{path}/{folder}/{architecture}", kind, part)
        for kind in ARRAYS
        for part, folder in parts.items()
    ]
    return [*card, *easydub]


@dataclass(frozen=True)
class Family:
    """The files of one family that belong to an ensemble, at its last epoch, by what they hold.

    files: paths relative to the root. sizes: bytes a path. other_epochs: those left aside.
    """

    ensemble: EnsembleId
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

    def points(self, part: str) -> int | None:
        """Points of a part; None for val, whose number only the data tell."""
        n, forget_set = self.ensemble.task.train_points, self.ensemble.forget_set
        forget = 0 if forget_set is None else len(forget_set)
        return {"train": n, "retain": n - forget, "forget": forget}.get(part)


@dataclass(frozen=True)
class Coverage:
    """Which points files cover, told from their shapes or their sizes.

    rows: how many members a file of all covers on all points of a part, 0 where there is no such
    file. fits: whether the files a member that are there cover all points of a part.
    """

    rows: Callable[[Family, Kind, str], int]
    fits: Callable[[Family, Kind, str], bool]


@dataclass(frozen=True)
class Complete:
    """Which members are complete.

    arrays: members that have margins or logits on all points of train or val. scored: members with
    margins, or something that they can be made of. members: of these the ones that serve, originals
    only with a checkpoint.
    """

    arrays: Mapping[tuple[Kind, str], set[int]]
    scored: list[int]
    members: list[int]


def complete(family: Family, coverage: Coverage) -> Complete:
    """Members that are whole, by their files."""
    arrays: dict[tuple[Kind, str], set[int]] = {}
    for kind, part in product(ARRAYS, PARTS):
        own = family.members(kind, part)
        found = own if own and coverage.fits(family, kind, part) else set()
        found = found | {*range(coverage.rows(family, kind, part))}
        retain = family.members(kind, "retain") if part == "train" else set()
        if family.ensemble.forget_set is not None:
            retain &= family.members(kind, "forget")
        arrays[kind, part] = found | retain  # an original's "retain" is all train points
    checkpoints = family.members("checkpoint")
    train, val = (arrays["margins", part] | arrays["logits", part] | checkpoints for part in PARTS)
    scored = sorted(train & val)
    is_oracle = family.ensemble.role == "oracle"
    return Complete(arrays, scored, [n for n in scored if is_oracle or n in checkpoints])


def families(ensemble: EnsembleId, found: Iterable[tuple[Place, str, int]]) -> list[Family]:
    """Files, given as (place, path relative to the root, bytes), by family and what they hold.

    KlomError where two files of a family claim to be the same thing.
    """
    found = list(found)
    last = last_epoch(ensemble, (path for _, path, _ in found))
    files: dict[str, dict[Key, str]] = {}
    sizes: dict[str, dict[str, int]] = {}
    others: dict[str, set[int]] = {}
    for place, path, size in found:
        name = read_name(PurePosixPath(path).name)
        kind = (name and name.kind) or place.kind
        if name is None or kind is None:
            continue
        key = (kind, name.part or place.part, name.member)
        mine = files.setdefault(place.family, {})
        if name.epoch not in (None, last):
            others.setdefault(place.family, set()).add(name.epoch)
        elif key in mine:
            raise KlomError(
                f"{mine[key]} and {path} are both {' '.join(str(k) for k in key if k is not None)}"
                f" of {ensemble.label}: it is not known which counts; move one away"
            )
        else:
            mine[key] = path
            sizes.setdefault(place.family, {})[path] = size
    return [
        Family(ensemble, mine, sizes.get(name, {}), tuple(sorted(others.get(name, ()))))
        for name, mine in files.items()
    ]


def last_epoch(ensemble: EnsembleId, paths: Iterable[str]) -> int:
    """That of the task's training; the last that is there, where nothing is trained here."""
    if ensemble.task.trains:
        return ensemble.task.training.epochs - 1
    names = (read_name(PurePosixPath(path).name) for path in paths)
    return max((name.epoch for name in names if name and name.epoch is not None), default=0)


def best(candidates: Sequence[Family], coverage: Coverage) -> Family | None:
    """The family with the most whole members, of several the first; None where there is none."""
    held = [family for family in candidates if family.files]

    def count(family: Family) -> tuple[int, int]:
        found = complete(family, coverage)
        return len(found.members), len(found.scored)

    return max(held, key=count, default=None)
