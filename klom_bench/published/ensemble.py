"""Ensembles that others have published: found by looking, read where they lie, never written."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from klom_bench.engine import HERE, Engine
from klom_bench.ensemble.ensemble import evaluating
from klom_bench.errors import KlomError
from klom_bench.files.arrays import read_array, read_state, shape_of
from klom_bench.files.names import Kind, gaps
from klom_bench.files.scratch import stacked
from klom_bench.metrics.far import far_members
from klom_bench.progress import Announce, silent
from klom_bench.published.checkpoints import fitting
from klom_bench.published.layouts import Complete, Coverage, Family, Key, complete
from klom_bench.published.shapes import by_shape
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId
from klom_bench.tasks.spots import margins_at, spots
from klom_bench.tasks.task import Task


@dataclass(frozen=True)
class PublishedEnsemble:
    """An ensemble as published: checkpoints, logits and margins, each as far as they are there.

    Margins are taken from margins, else made of logits, else of checkpoints. Members are counted:
    the i-th of those that are whole, whatever numbers they have.
    """

    root: Path
    ensemble: EnsembleId
    family: Family = field(compare=False)
    published: bool = field(default=True, init=False)
    trained_here: bool = field(default=False, init=False)

    @cached_property
    def _complete(self) -> Complete:
        return complete(self.family, self._coverage)

    @cached_property
    def _coverage(self) -> Coverage:
        return by_shape(self.root)

    @property
    def scored(self) -> list[int]:
        """Numbers of the members with margins, or something that they can be made of."""
        return self._complete.scored

    @property
    def members(self) -> list[int]:
        """Numbers of the members that are whole: of originals, those with checkpoints."""
        return self._complete.members

    @property
    def folder(self) -> Path:
        """Where most of it lies."""
        return (self.root / next(iter(self.family.files.values()))).parent

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
        unwhole = [n for n in self.family.numbers if n not in self.members]
        is_original = self.ensemble.role == "original"
        if is_original and not self.family.members("checkpoint"):
            reasons.append("there are no checkpoints, and originals are unlearned from those")
        elif unwhole:
            reasons.append(f"{_some(unwhole)} only in part there")
        if self.family.other_epochs and not self.family.numbers:
            last = self.ensemble.task.training.epochs - 1
            reasons.append(f"files of epochs {list(self.family.other_epochs)} only, not of {last}")
        stacked = self.family.files.get(("margins", "train", None))
        if stacked and not self._coverage.rows(self.family, "margins", "train"):
            columns = shape_of(self.root / stacked)[1]
            retain_only = columns == self.family.points("retain")
            reasons.append(
                f"{stacked} has {columns} columns for {self.family.points('train')} train points"
                + (", those of the retain set: nothing is known of the forget set" * retain_only)
            )
        why = f" ({'; '.join(reasons)})" if reasons else ""
        return f"{have} of {wanted} published {label} are in {self.folder}{why}"

    def states_of(self, members: Sequence[int]) -> list[dict[str, Tensor]]:
        """State dicts of some members, counted from the first, with the task's keys."""
        chosen = self._with_checkpoints(max(members) + 1)
        return [self.state(chosen[i]) for i in members]

    def _with_checkpoints(self, count: int) -> list[int]:
        chosen = self.chosen(count)
        if lacking := sorted({*chosen} - self.family.members("checkpoint")):
            raise KlomError(
                f"the published {self.ensemble.label} in {self.folder} have no checkpoints: "
                f"{_some(lacking)} without"
            )
        return chosen

    def state(self, member: int) -> dict[str, Tensor]:
        """The state dict of one member; KlomError that names what does not fit."""
        path = self.root / self.family.files["checkpoint", "", member]
        return fitting(read_state(path), self.ensemble.task.entries, path)

    def checkpoints(self, count: int) -> list[Path]:
        """Files of the first members' checkpoints."""
        files = self.family.files
        return [self.root / files["checkpoint", "", n] for n in self._with_checkpoints(count)]

    def margins(
        self,
        count: int,
        device: torch.device,
        announce: Announce = silent,
        engine: Engine = HERE,
    ) -> np.ndarray:
        """float32 [members, points], train points first."""
        return self.margins_of(self.chosen(count), device, announce, engine)

    def margins_of(
        self,
        chosen: Sequence[int],
        device: torch.device,
        announce: Announce = silent,
        engine: Engine = HERE,
    ) -> np.ndarray:
        """The same of members with these numbers."""
        # Members whose margins are there, or can be made of logits.
        train, val = (
            self._complete.arrays["margins", part] | self._complete.arrays["logits", part]
            for part in PARTS
        )
        rest = [n for n in chosen if n not in train & val]
        found = dict(self._computed(rest, device, announce, engine))
        rows = (
            found[n] if n in found else np.concatenate([self._margins(n, p) for p in PARTS])
            for n in chosen
        )
        found_all = stacked((row.astype(np.float32, copy=False) for row in rows), len(chosen))
        if not np.isfinite(found_all).all():
            row, point = np.argwhere(~np.isfinite(found_all))[0]
            raise KlomError(
                f"the published {self.ensemble.label} in {self.folder}: the margin of member "
                f"{chosen[row]} at point {point} is {found_all[row, point]}: this model diverged, "
                "or the file is damaged; leave it out"
            )
        n = self.ensemble.task.train_points
        for part in (found_all[:, :n], found_all[:, n:]):
            judged = self.ensemble.task.outputs.right is not None
            if judged and (far := far_members(part)):
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
        if not all({*chosen} <= self._complete.arrays["logits", part] for part in PARTS):
            return None
        task = self.ensemble.task
        y, found = task.data.y(), []
        for n in chosen:
            z = np.concatenate([self._array("logits", n, p) for p in PARTS])
            rights = task.outputs.rights(torch.from_numpy(z).unsqueeze(0), y)
            if rights is None:
                return None
            found.append(rights[0].numpy())
        return np.stack(found)

    @property
    def seconds(self) -> float:
        """Training a member took: not published."""
        return float("nan")

    @property
    def examples(self) -> float | None:
        """Examples that training has shown a member: not published, as many as the recipe says."""
        return None if self.ensemble.task.trains else float("nan")

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
        if member in self._complete.arrays["margins", part]:
            return self._array("margins", member, part)
        data = self.ensemble.task.data
        labels = data.y_train if part == "train" else data.y_val
        z = torch.from_numpy(self._array("logits", member, part)).unsqueeze(0)
        return np.asarray(self.ensemble.task.outputs.margins(z, labels)[0])

    def _array(self, kind: Kind, member: int, part: str) -> np.ndarray:
        """Margins [points] or logits [points, classes] of a member on train or val points."""
        files, forget_set = self.family.files, self.ensemble.forget_set
        if part == "train" and (kind, part, member) not in files:
            if forget_set is None and (kind, "retain", member) in files:
                return self._file((kind, "retain", member), "train")
            if forget_set is not None and (kind, "forget", member) in files:
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
            for kind, part, member in self.family.files
            if member is None and self._coverage.rows(self.family, kind, part)
        }

    def _file(self, key: Key, part: str, members: bool = False) -> np.ndarray:
        """A file's array, its shape checked."""
        path = self.root / self.family.files[key]
        array = read_array(path)
        points = self.family.points(part)
        if points is None:
            points = len(self.ensemble.task.data.y_val)
        wanted: tuple[Any, ...] = (points,)
        if key[0] == "logits":
            wanted += self.ensemble.task.output_shape
        if array.shape[int(members) :] != wanted:
            raise KlomError(
                f"{path} has shape {array.shape}, where {wanted} is expected: {key[0]} of "
                f"{part} points of {self.ensemble.task.name}"
                + (" [points, classes]" if key[0] == "logits" else "")
            )
        return array

    def _computed(
        self, members: Sequence[int], own: torch.device, announce: Announce, engine: Engine
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(member, its margins) from checkpoints, as they are done."""
        if not members:
            return
        device = engine.device(own)
        _ = self.ensemble.task.data  # else each thread would read them
        work = partial(_margins_of_state, self.ensemble.task, device)
        mapped = engine.map(work, members, device, self.state)
        label = f"margins of the published {self.ensemble.label}"
        with announce(label, len(members)) as tick, closing(mapped) as found:
            for member, margins in found:
                tick(1)
                yield member, margins


def _margins_of_state(
    task: Task, device: torch.device, member: int, state: Mapping[str, Tensor]
) -> np.ndarray:
    model, data = task.ensemble([state]), task.data_on(device)
    with evaluating(model.to(device)):
        z = data.outputs(model, 1)
    return np.asarray(task.outputs.margins(z, data.y())[0].cpu().numpy())


def _some(numbers: Sequence[int]) -> str:
    """`member 57 is` or `members 3, 5, 8 and 4 more are`."""
    first = ", ".join(map(str, numbers[:3]))
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return f"member {first} is" if len(numbers) == 1 else f"members {first}{more} are"
