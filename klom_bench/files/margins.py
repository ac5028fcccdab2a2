"""Margins that were computed anywhere, in files or folders of any published kind."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from klom_bench.errors import KlomError, visible
from klom_bench.files.arrays import read_array, read_npz
from klom_bench.files.names import Name, gaps, read_name

PARTS = ("train", "retain", "forget", "val")
WHOLE = "all"
MOST = 1e100
"""No margin comes near; squares of more are no numbers."""


@dataclass(frozen=True)
class LooseMargins:
    """parts: `train`, `retain`, `forget`, `val`, or `all` where that is not known; each margins
    [members, points]. notes: what is odd about the files. holes: numbers of models that are not
    there, in words."""

    source: Path
    parts: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)
    holes: str = ""

    @property
    def members(self) -> int:
        """How many models."""
        return len(next(iter(self.parts.values())))


def read_margins(path: Path) -> LooseMargins:
    """Margins of a .npy or .pt file [members, points], a .npz of such, or a folder.

    A folder holds a file a model (`3__train_margins_23.npy`, `id_3_epoch_23.npy`, `3.npy`), or
    files of all (`val_margins_all.pt`, `val.npy`); or folders named train, retain, forget, val.
    KlomError for what cannot be read or does not fit together.
    """
    if not path.exists():
        raise KlomError(f"{path} is not there")
    found = _folder(path) if path.is_dir() else LooseMargins(path, _file(path))
    if not found.parts:
        raise KlomError(f"{path} holds no margins: {_what_instead(path)}")
    return checked_margins(found)


def checked_margins(found: LooseMargins) -> LooseMargins:
    """The same, once shapes fit together; KlomError where they do not."""
    path = found.source
    for name, array in found.parts.items():
        if array.ndim != 2 or not array.size:
            raise KlomError(
                f"{path}: the {name} margins have shape {array.shape}: [members, points] expected"
            )
        if array.dtype.itemsize > 4 and bool((np.abs(array[np.isfinite(array)]) > MOST).any()):
            raise KlomError(
                f"{path} has {name} margins beyond {MOST:g}: these models diverged, or it holds no "
                "margins"
            )
        if array.shape[0] > array.shape[1] > 1:
            found.notes.append(
                f"{path} has {array.shape[0]} models and {array.shape[1]} points ({name}): margins "
                "are [models, points]; are these the other way round?"
            )
    counts = {name: len(array) for name, array in found.parts.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise KlomError(f"{path} has margins of different numbers of models: {told}")
    return found


def _file(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        arrays = read_npz(path)
        named = {name.removesuffix("_margins"): array for name, array in arrays.items()}
        if len(named) < len(arrays):
            raise KlomError(f"{path} has one part twice: {', '.join(map(visible, arrays))}")
        if len(named) == 1 and not set(named) & set(PARTS):
            return {WHOLE: next(iter(named.values()))}
        if strange := [name for name in named if name not in PARTS]:
            raise KlomError(
                f"{path} has arrays named {', '.join(map(visible, strange))}: "
                f"{', '.join(PARTS)} are known, "
                "or one array of any name"
            )
        return named
    if path.suffix not in (".npy", ".pt"):
        raise KlomError(f"{path} is not .npy, .npz or .pt")
    name = read_name(path.name)
    if name is not None and name.kind in ("logits", "checkpoint"):
        raise KlomError(f"{path} holds no margins: {_what_instead(path)}")
    return {(name and name.part) or WHOLE: read_array(path)}


def _folder(folder: Path) -> LooseMargins:
    """The margins of a folder, those of subfolders named after a part included."""
    found: dict[str, dict[int | None, dict[int, Path]]] = {}
    ignored: list[str] = []
    for part, path in _array_files(folder):
        name = read_name(path.name) or _numbered(path)
        if name is None or name.kind not in (None, "margins"):
            ignored += [path.name] * (name is None)
            continue
        epoch = -1 if name.epoch is None else name.epoch
        of_member = found.setdefault(name.part or part, {}).setdefault(name.member, {})
        if epoch in of_member:
            raise KlomError(f"{of_member[epoch]} and {path} are both of the same model: which one?")
        of_member[epoch] = path
    notes = [f"{folder}: not read: {', '.join(ignored[:5])}"] if ignored else []
    last = max((epoch for p in found.values() for of in p.values() for epoch in of), default=-1)
    parts, numbers_of, missing = {}, {}, ""
    for part, by_member in found.items():
        # Files without an epoch are of the last one.
        files = {
            member: of.get(last, of.get(-1))
            for member, of in by_member.items()
            if {last, -1} & {*of}
        }
        if others := sorted({epoch for of in by_member.values() for epoch in of} - {last, -1}):
            notes.append(f"{folder}: {part} margins of epochs {others} were left aside for {last}")
        paths = {member: path for member, path in files.items() if path is not None}
        if None in paths and len(paths) > 1:
            raise KlomError(
                f"{folder} has {part} margins in {paths[None].name} and in a file a model: which?"
            )
        numbers = sorted(member for member in paths if member is not None)
        numbers_of[part] = frozenset(numbers)
        if holes := gaps(numbers):
            missing = missing or holes
            notes.append(f"{folder}: {part} margins of {holes} are missing in between")
        ordered = [paths[None]] if None in paths else [paths[member] for member in numbers]
        if len({path.parent for path in ordered}) > 1:
            raise KlomError(f"{folder} has {part} margins in several folders: name one of them")
        parts[part] = read_array(ordered[0]) if None in paths else _stacked(ordered)
    different = {numbers for numbers in numbers_of.values() if numbers}
    if len(different) > 1:
        odd = sorted(frozenset.union(*different) - frozenset.intersection(*different))
        raise KlomError(
            f"{folder}: {' and '.join(numbers_of)} margins are of different models: model "
            f"{', '.join(map(str, odd[:5]))} is not in all of them"
        )
    return LooseMargins(folder, parts, notes, missing)


def _numbered(path: Path) -> Name | None:
    """`model_3.npy`, `run-3.npy`: any word and a number."""
    match = re.fullmatch(r"[A-Za-z]+[-_.]?(\d+)", path.stem)
    return Name(None, "", int(match[1]), None) if match else None


def _array_files(folder: Path) -> Iterable[tuple[str, Path]]:
    """(part, file): the folder's own files, and those of subfolders named after a part."""
    suffixes = (".npy", ".pt")
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes and path.is_file():
            yield WHOLE, path
    for part in PARTS:
        below = folder / part
        for path in sorted(below.rglob("*")) if below.is_dir() else []:
            if path.suffix in suffixes:
                yield part, path


def _stacked(files: list[Path]) -> np.ndarray:
    """One array a model, stacked without holding everything twice."""
    first = read_array(files[0])
    if first.ndim != 1:
        raise KlomError(f"{files[0]} has shape {first.shape}: [points] of one model expected")
    whole = np.empty((len(files), len(first)), first.dtype)
    whole[0] = first
    for row, file in enumerate(files[1:], 1):
        array = read_array(file)
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            raise KlomError(
                f"{file} has shape {array.shape} of {array.dtype}, {files[0].name} beside it has "
                f"{first.shape} of {first.dtype}"
            )
        whole[row] = array
    return whole


def _what_instead(path: Path) -> str:
    names = [p.name for p in sorted(path.iterdir())] if path.is_dir() else [path.name]
    if any("logits" in name for name in names):
        return "it holds logits; klom_bench.margins(logits, labels) makes margins of them"
    if any(name.startswith("sd_") for name in names):
        return "it holds checkpoints; `pytest --klom-store` reads those"
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return (
        f"it holds {shown or 'nothing'}; known are 3.npy, model_3.npy, 3__val_margins_23.npy, "
        "id_3_epoch_23.npy, val_margins_all.pt, and folders named train, retain, forget, val"
    )
