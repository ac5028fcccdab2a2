"""Ensembles that others have published: found by looking, read where they lie, never written."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, evaluating
from klom_bench.ensemble.threads import Check, each
from klom_bench.errors import KlomError
from klom_bench.metrics.far import far_members
from klom_bench.metrics.margins import margins
from klom_bench.progress import Announce, silent
from klom_bench.store.array_files import read_array, read_state, shape_of
from klom_bench.store.layout import EnsembleId
from klom_bench.store.manifest import PARTS
from klom_bench.store.names import Kind, gaps
from klom_bench.store.pieces import Key, Pieces, Whole, best, families, places, whole
from klom_bench.store.spots import margins_at, spots

PREFIXES = ("model.", "module.")
"""What published checkpoints put before the names of a model's parameters."""


def look(root: Path, ensemble: EnsembleId) -> "PublishedEnsemble | None":
    """What the published layouts hold of an ensemble, None where nothing is, or one of ours."""
    if os.path.lexists(root / ensemble.folder / "manifest.json"):
        return None
    found = [
        (place, f"{place.folder}/{name}", size)
        for place in places(ensemble)
        for name, size in _files(root / place.folder)
    ]
    if any(path == f"{ensemble.folder.as_posix()}/manifest.json" for _, path, _ in found):
        return None  # it has just been written
    rows, fits = partial(_rows, root), partial(_fits, root)
    pieces = best(families(ensemble, found), rows, fits)
    return PublishedEnsemble(root, ensemble, pieces) if pieces else None


def _files(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes of the files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e.name, e.stat().st_size) for e in entries if _is_file(e))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    """No link that leads nowhere, or to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False


def _rows(root: Path, pieces: Pieces, kind: Kind, part: str) -> int:
    """By the shape of the file of all members."""
    path = pieces.files.get((kind, part, None))
    if path is None:
        return 0
    shape = shape_of(root / path)
    if len(shape) != (2 if kind == "margins" else 3):
        raise KlomError(f"{root / path} has shape {shape}: [members, points, ...] is expected")
    return shape[0] if pieces.points(part) in (None, shape[1]) else 0


def _fits(root: Path, pieces: Pieces, kind: Kind, part: str) -> bool:
    """By the shape of the first file: retain-only margins do not cover all train points."""
    first = min(pieces.members(kind, part))
    shape = shape_of(root / pieces.files[kind, part, first])
    retain_only = pieces.points("retain") if pieces.ensemble.forget_set else None
    return part == "val" or shape[0] != retain_only or shape[0] == pieces.points(part)


@dataclass(frozen=True)
class PublishedEnsemble:
    """An ensemble as published: checkpoints, logits and margins, each as far as they are there.

    Margins are taken from margins, else made of logits, else of checkpoints. Members are counted:
    the i-th of those that are whole, whatever numbers they have.
    """

    root: Path
    ensemble: EnsembleId
    pieces: Pieces

    @cached_property
    def _whole(self) -> Whole:
        return whole(self.pieces, partial(_rows, self.root), partial(_fits, self.root))

    @property
    def scored(self) -> list[int]:
        """Numbers of the members with margins, or something that they can be made of."""
        return self._whole.scored

    @property
    def members(self) -> list[int]:
        """Numbers of the members that are whole: of originals, those with checkpoints."""
        return self._whole.members

    @property
    def folder(self) -> Path:
        """Where most of it lies."""
        return (self.root / next(iter(self.pieces.files.values()))).parent

    def lacks(self, count: int) -> int:
        """How many members are missing to so many."""
        return max(0, count - len(self.members))

    @property
    def gaps(self) -> str:
        """Which members are missing in the middle of a range, in words; empty where none is."""
        return gaps(self.scored)

    def chosen(self, count: int) -> list[int]:
        """The first members; KlomError where there are fewer."""
        if self.lacks(count):
            raise KlomError(self.complaint(count))
        return self.members[:count]

    def complaint(self, wanted: int) -> str:
        """Why there are fewer members than wanted."""
        label, have = self.ensemble.label, len(self.members)
        reasons = []
        if self.gaps:
            reasons.append(f"missing in the middle: {self.gaps}")
        unwhole = [n for n in self.pieces.numbers if n not in self.members]
        is_original = self.ensemble.role == "original"
        if is_original and not self.pieces.members("checkpoint"):
            reasons.append("there are no checkpoints, and originals are unlearned from those")
        elif unwhole:
            reasons.append(f"{_some(unwhole)} only in part there")
        if self.pieces.other_epochs and not self.pieces.numbers:
            last = self.ensemble.task.recipe.epochs - 1
            reasons.append(f"files of epochs {list(self.pieces.other_epochs)} only, not of {last}")
        stacked = self.pieces.files.get(("margins", "train", None))
        if stacked and not _rows(self.root, self.pieces, "margins", "train"):
            columns = shape_of(self.root / stacked)[1]
            retain_only = columns == self.pieces.points("retain")
            reasons.append(
                f"{stacked} has {columns} columns for {self.pieces.points('train')} train points"
                + (", those of the retain set: nothing is known of the forget set" * retain_only)
            )
        why = f" ({'; '.join(reasons)})" if reasons else ""
        return f"{have} of {wanted} published {label} are in {self.folder}{why}"

    def states(self, count: int) -> list[dict[str, Tensor]]:
        """State dicts of the first members, with the keys of the task's architecture."""
        return [self.state(n) for n in self._with_checkpoints(count)]

    def _with_checkpoints(self, count: int) -> list[int]:
        chosen = self.chosen(count)
        if lacking := sorted({*chosen} - self.pieces.members("checkpoint")):
            raise KlomError(
                f"the published {self.ensemble.label} in {self.folder} have no checkpoints: "
                f"{_some(lacking)} without"
            )
        return chosen

    def state(self, member: int) -> dict[str, Tensor]:
        """The state dict of one member; KlomError that names what does not fit."""
        path = self.root / self.pieces.files["checkpoint", "", member]
        return fitting(read_state(path), self.ensemble.task.shapes, path)

    def checkpoints(self, count: int) -> list[Path]:
        """Files of the first members' checkpoints."""
        files = self.pieces.files
        return [self.root / files["checkpoint", "", n] for n in self._with_checkpoints(count)]

    def margins(self, count: int, device: torch.device, announce: Announce = silent) -> np.ndarray:
        """float32 [members, points], train points first."""
        return self.margins_of(self.chosen(count), device, announce)

    def margins_of(
        self, chosen: Sequence[int], device: torch.device, announce: Announce = silent
    ) -> np.ndarray:
        """The same of members with these numbers."""
        # Members whose margins are there, or can be made of logits.
        train, val = (
            self._whole.arrays["margins", part] | self._whole.arrays["logits", part]
            for part in PARTS
        )
        rest = [n for n in chosen if n not in train & val]
        found = dict(zip(rest, self._computed(rest, device, announce), strict=True))
        rows = [
            found[n] if n in found else np.concatenate([self._margins(n, p) for p in PARTS])
            for n in chosen
        ]
        found_all = np.stack(rows).astype(np.float32, copy=False)
        if not np.isfinite(found_all).all():
            row, point = np.argwhere(~np.isfinite(found_all))[0]
            raise KlomError(
                f"the published {self.ensemble.label} in {self.folder}: the margin of member "
                f"{chosen[row]} at point {point} is {found_all[row, point]}: this model diverged, "
                "or the file is damaged; leave it out"
            )
        n = self.ensemble.task.train_points
        for part in (found_all[:, :n], found_all[:, n:]):
            if far := far_members(part):
                raise KlomError(
                    f"the published {self.ensemble.label} in {self.folder}: "
                    f"{_some([chosen[row] for row in far])} far from the others (margins of "
                    f"another size, or often wrong where they are right): diverged, or damaged. "
                    "Scores would mean nothing; leave such members out"
                )
        return found_all

    def spot_check(self, member: int, device: torch.device) -> tuple[np.ndarray, np.ndarray]:
        """(points, their margins by the member's checkpoint), for some train and val points."""
        task = self.ensemble.task
        return margins_at(task, self.state(member), spots(task), device)

    def answers(self, count: int) -> np.ndarray | None:
        """Right or wrong, bool [members, points]; None where not all logits are there."""
        chosen = self.chosen(count)
        if not all({*chosen} <= self._whole.arrays["logits", part] for part in PARTS):
            return None
        y = self.ensemble.task.data.y().numpy()
        return np.stack(
            [
                np.concatenate([self._array("logits", n, p) for p in PARTS]).argmax(-1) == y
                for n in chosen
            ]
        )

    @property
    def seconds(self) -> float:
        """Training a member took: not published."""
        return float("nan")

    def accuracy(self, count: int) -> dict[str, float]:
        """Mean accuracy a split, nan where no logits are there."""
        forget_set, answers = self.ensemble.forget_set, self.answers(count)
        if answers is None or forget_set is None:
            return dict.fromkeys(("forget", "retain", "val"), float("nan"))
        rows = {
            "forget": forget_set.indices,
            "retain": forget_set.retain,
            "val": np.arange(self.ensemble.task.train_points, answers.shape[1]),
        }
        return {split: float(answers[:, where].mean()) for split, where in rows.items()}

    def _margins(self, member: int, part: str) -> np.ndarray:
        if member in self._whole.arrays["margins", part]:
            return self._array("margins", member, part)
        data = self.ensemble.task.data
        labels = (data.y_train if part == "train" else data.y_val).numpy()
        logits = self._array("logits", member, part)
        return np.asarray(margins(logits, labels))

    def _array(self, kind: Kind, member: int, part: str) -> np.ndarray:
        """Margins [points] or logits [points, classes] of a member on train or val points."""
        files, forget_set = self.pieces.files, self.ensemble.forget_set
        if part == "train" and (kind, part, member) not in files:
            if forget_set is None and (kind, "retain", member) in files:
                return self._file((kind, "retain", member), "train")
            if forget_set and (kind, "forget", member) in files:
                retain = self._file((kind, "retain", member), "retain")
                forget = self._file((kind, "forget", member), "forget")
                both = np.empty((forget_set.train_points, *retain.shape[1:]), retain.dtype)
                both[forget_set.retain], both[forget_set.given] = retain, forget
                return both
        if (kind, part, member) in files:
            return self._file((kind, part, member), part)
        rows: np.ndarray = self._stacked[kind, part][member]
        return rows

    @cached_property
    def _stacked(self) -> dict[tuple[str, str], np.ndarray]:
        return {
            (kind, part): self._file((kind, part, None), part, members=True)
            for kind, part, member in self.pieces.files
            if member is None and _rows(self.root, self.pieces, kind, part)
        }

    def _file(self, key: Key, part: str, members: bool = False) -> np.ndarray:
        """A file's array, its shape checked."""
        path = self.root / self.pieces.files[key]
        array = read_array(path)
        points = self.pieces.points(part)
        if points is None:
            points = len(self.ensemble.task.data.y_val)
        wanted: tuple[Any, ...] = (points,)
        if key[0] == "logits":
            wanted += (int(self.ensemble.task.data.y().max()) + 1,)
        if array.shape[int(members) :] != wanted:
            raise KlomError(
                f"{path} has shape {array.shape}, where {wanted} is expected: {key[0]} of "
                f"{part} points of {self.ensemble.task.name}"
                + (" [points, classes]" if key[0] == "logits" else "")
            )
        return array

    def _computed(
        self, members: Sequence[int], device: torch.device, announce: Announce
    ) -> list[np.ndarray]:
        """Margins from checkpoints."""
        if not members:
            return []
        data = self.ensemble.task.data_on(device)

        with announce(f"margins of the published {self.ensemble.label}", len(members)) as tick:

            def one(member: int, check: Check) -> np.ndarray:
                check()
                model = Ensemble(self.ensemble.task.architecture, [self.state(member)])
                with evaluating(model.to(device)):
                    found = margins(data.logits(model, 1), data.y())[0]
                tick(1)
                return np.asarray(found.cpu().numpy())

            return each(members, one, device)


def fitting(state: dict[str, Any], shapes: dict[str, list[int]], path: Path) -> dict[str, Tensor]:
    """The state dict with the names of the architecture; KlomError that names what does not fit."""
    found = {str(name): value for name, value in state.items()}
    while found and set(found) != set(shapes):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    counter = "num_batches_tracked"
    wrong = [
        f"{name} is no tensor of floating point numbers"
        for name, value in found.items()
        if not isinstance(value, Tensor)
        or not (value.is_floating_point() or name.endswith(counter))
    ]
    wrong += [f"{name} is missing" for name in shapes if name not in found]
    wrong += [f"{name} is unknown" for name in found if name not in shapes]
    wrong += [
        f"{name} is {list(value.shape)}, not {shapes[name]}"
        for name, value in found.items()
        if name in shapes and isinstance(value, Tensor) and list(value.shape) != shapes[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise KlomError(f"{path} is no state dict of this task: {'; '.join(wrong[:5])}{more}")
    return {name: v.float() if v.is_floating_point() else v for name, v in found.items()}


def _some(numbers: Sequence[int]) -> str:
    """`member 57 is` or `members 3, 5, 8 and 4 more are`."""
    first = ", ".join(map(str, numbers[:3]))
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return f"member {first} is" if len(numbers) == 1 else f"members {first}{more} are"
