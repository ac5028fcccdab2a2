"""The data of a task."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Prepare, as_they_are, logits
from klom_bench.ensemble.inputs import Inputs, at, count, each, is_dataset, named, tensors
from klom_bench.ensemble.points import Points

PARTS = ("x_train", "y_train", "x_val", "y_val")


@dataclass(frozen=True)
class Data:
    """Train and val points.

    Args:
        x_train, x_val: inputs [n, ...]; a dict or tuple of such, which models get by keyword or in
            their order; or datasets whose `[i]` is the input of one point, read when it is needed.
            Train and val images may differ in size.
        y_train, y_val: int64 labels [n], 0 ... classes - 1; what else the task's loss takes.
        sha256: the word for the data in stores made before data were hashed; new ones need none.
            Of datasets it is all that says whether they changed, beside some of their points.
        prepare: makes of a batch of x the inputs of a model, on x's device: images stay uint8 until
            then.

    Example:
        >>> import torch
        >>> from klom_bench import Data
        >>> x, y = torch.randn(300, 20), torch.arange(300) % 3
        >>> Data(x[:200], y[:200], x[200:], y[200:]).classes
        3
    """

    x_train: Inputs
    y_train: Tensor
    x_val: Inputs
    y_val: Tensor
    sha256: str = ""
    prepare: Prepare = as_they_are

    def y(self) -> Tensor:
        """All labels, train first."""
        return torch.cat([self.y_train, self.y_val])

    def to(self, device: torch.device) -> "Data":
        """The same data on a device; datasets stay where they are."""
        x_train, x_val = (
            x if is_dataset(x) else each(lambda t: t.to(device), x)
            for x in (self.x_train, self.x_val)
        )
        return replace(
            self,
            x_train=x_train,
            y_train=self.y_train.to(device),
            x_val=x_val,
            y_val=self.y_val.to(device),
        )

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each part: of dtype, shape and values of its tensors."""
        found = {name: _hash_of(getattr(self, name)) for name in PARTS}
        if self.sha256 and any(is_dataset(x) for x in (self.x_train, self.x_val)):
            found["sha256"] = self.sha256
        return found

    def tensors(self) -> list[Tensor]:
        """All tensors that are held."""
        parts = (getattr(self, name) for name in PARTS)
        return [t for part in parts if not is_dataset(part) for t in tensors(part)]

    def outputs(self, model: Any, members: int) -> Tensor:
        """Outputs [members, points, ...] for all points, train first."""
        device = self.y_train.device
        parts = (
            logits(model, x, members, self.prepare, device=device, first=first)
            for x, first in ((self.x_train, 0), (self.x_val, len(self.y_train)))
        )
        return torch.cat(list(parts), 1)

    @property
    def classes(self) -> int:
        """How many classes there are: labels are 0 ... classes - 1."""
        return int(self.y().max()) + 1

    def first(self, points: int) -> tuple[Inputs, Tensor]:
        """The first train points as models see them, and their labels."""
        rows = torch.arange(min(points, len(self.y_train)))
        return self.seen(self.x_train, rows), self.y_train[rows]

    def seen(self, x: Inputs, rows: Tensor) -> Inputs:
        """Points of x_train or x_val with these numbers, as models see them."""
        return self.prepare(at(x, rows, self.y_train.device))

    def points(self, indices: np.ndarray, generators: Sequence[torch.Generator]) -> Points:
        """Some of the train points, for members with these random streams."""
        rows = torch.from_numpy(indices)
        return Points(self.x_train, self.y_train, rows, generators, self.prepare)


READ = 64
"""Points of a dataset that are hashed, spread evenly: reading all may take an hour."""


def _hash_of(x: Inputs) -> str:
    if isinstance(x, Tensor):
        return sha256_of_tensor(x)
    if is_dataset(x):
        rows = torch.arange(READ) * (count(x) - 1) // (READ - 1)
        return _joined(f"dataset {count(x)}", at(x, rows, torch.device("cpu")))
    return _joined("inputs", x)


def _joined(first: str, x: Inputs) -> str:
    parts = [first, *(f"{name} {sha256_of_tensor(t)}" for name, t in named(x, "x").items())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def sha256_of_tensor(tensor: Tensor) -> str:
    """Of what a tensor holds, not of how it lies in memory."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {list(plain.shape)} ".encode())
    if plain.numel():
        digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
