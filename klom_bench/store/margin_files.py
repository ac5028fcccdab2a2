"""Margins that were computed anywhere, in files or folders of any published kind."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from klom_bench.errors import KlomError
from klom_bench.store.array_files import read_array, read_npz
from klom_bench.store.names import read_name

PARTS = ("train", "retain", "forget", "val")
WHOLE = "all"


@dataclass(frozen=True)
class LooseMargins:
    """parts: `train`, `retain`, `forget`, `val`, or `all` where that is not known; each margins
    [members, points]. notes: what is odd about the files."""

    source: Path
    parts: dict[str, np.ndarray]
    notes: list[str] = field(default_factory=list)

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
    for name, array in found.parts.items():
        if array.ndim != 2 or not array.size:
            raise KlomError(
                f"{path}: the {name} margins have shape {array.shape}: [members, points] expected"
            )
    counts = {name: len(array) for name, array in found.parts.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise KlomError(f"{path} has margins of different numbers of models: {told}")
    return found


def _file(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        arrays = {name.removesuffix("_margins"): a for name, a in read_npz(path).items()}
        if len(arrays) == 1 and not set(arrays) & set(PARTS):
            return {WHOLE: next(iter(arrays.values()))}
        if strange := [name for name in arrays if name not in PARTS]:
            raise KlomError(
                f"{path} has arrays named {', '.join(strange)}: {', '.join(PARTS)} are known, "
                "or one array of any name"
            )
        return arrays
    if path.suffix not in (".npy", ".pt"):
        raise KlomError(f"{path} is not .npy, .npz or .pt")
    return {WHOLE: read_array(path)}


def _folder(folder: Path) -> LooseMargins:
    """The margins of a folder, those of subfolders named after a part included."""
    notes: list[str] = []
    by_part: dict[str, dict[int | None, Path]] = {}
    epochs: dict[tuple[str, int | None], int] = {}
    for part, path in _array_files(folder):
        name = read_name(path.name)
        if name is None or name.kind not in (None, "margins"):
            continue
        part = name.part or part
        key, epoch = (part, name.member), -1 if name.epoch is None else name.epoch
        if key not in epochs or epoch > epochs[key]:
            epochs[key] = epoch
            by_part.setdefault(part, {})[name.member] = path
    parts = {}
    for part, files in by_part.items():
        if None in files:
            parts[part] = read_array(files[None])
            continue
        numbers = sorted(member for member in files if member is not None)
        parts[part] = _stacked([files[member] for member in numbers])
        if gaps := sorted({*range(numbers[0], numbers[-1])} - {*numbers}):
            few = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
            notes.append(f"{folder}: {part} margins of model {few} are missing in between")
    numbers_of = {
        part: frozenset(m for m in files if m is not None) for part, files in by_part.items()
    }
    different = {numbers for numbers in numbers_of.values() if numbers}
    if len(different) > 1:
        odd = sorted(frozenset.union(*different) - frozenset.intersection(*different))
        raise KlomError(
            f"{folder}: {' and '.join(numbers_of)} margins are of different models: model "
            f"{', '.join(map(str, odd[:5]))} is not in all of them"
        )
    if len({epoch for epoch in epochs.values() if epoch >= 0}) > 1:
        notes.append(f"{folder} holds several epochs: the last of each model was taken")
    return LooseMargins(folder, parts, notes)


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
        raise KlomError(
            f"{files[0]} has shape {first.shape}: margins [points] of one model expected"
        )
    whole = np.empty((len(files), len(first)), first.dtype)
    whole[0] = first
    for row, file in enumerate(files[1:], 1):
        array = read_array(file)
        if array.shape != first.shape:
            raise KlomError(
                f"{file} has shape {array.shape}, {files[0].name} beside it has {first.shape}"
            )
        whole[row] = array
    return whole


def _what_instead(folder: Path) -> str:
    names = [p.name for p in sorted(folder.iterdir())] if folder.is_dir() else []
    if any("logits" in name for name in names):
        return "it holds logits; klom_bench.margins(logits, labels) makes margins of them"
    if any(name.startswith("sd_") for name in names):
        return "it holds checkpoints; `pytest --klom-store` reads those"
    shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    return f"it holds {shown or 'nothing'}"
