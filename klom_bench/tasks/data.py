"""The data of a task."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Prepare, as_they_are, logits
from klom_bench.ensemble.points import Points

PARTS = ("x_train", "y_train", "x_val", "y_val")


@dataclass(frozen=True)
class Data:
    """Train and val points: inputs x [n, ...], int64 labels y [n].

    `sha256` is the word for the data in stores made before they were hashed here; new ones need
    none. `prepare` makes of a batch of x the float inputs of a model, on x's device: images stay
    uint8 until then. Train and val images may differ in size.
    """

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    sha256: str = ""
    prepare: Prepare = as_they_are

    def y(self) -> Tensor:
        """All labels, train first."""
        return torch.cat([self.y_train, self.y_val])

    def to(self, device: torch.device) -> "Data":
        """The same data on a device."""
        return Data(
            self.x_train.to(device),
            self.y_train.to(device),
            self.x_val.to(device),
            self.y_val.to(device),
            self.sha256,
            self.prepare,
        )

    def hashes(self) -> dict[str, str]:
        """SHA-256 of each tensor: its dtype, shape and values."""
        return {name: _hash(getattr(self, name)) for name in PARTS}

    def logits(self, model: Any, members: int) -> Tensor:
        """Logits [members, points, classes] of all points, train first."""
        parts = (logits(model, x, members, self.prepare) for x in (self.x_train, self.x_val))
        return torch.cat(list(parts), 1)

    def points(self, indices: np.ndarray, generators: Sequence[torch.Generator]) -> Points:
        """Some of the train points, for members with these random streams."""
        rows = torch.from_numpy(indices)
        return Points(self.x_train, self.y_train, rows, generators, self.prepare)


def _hash(tensor: Tensor) -> str:
    """Of what a tensor holds, not of how it lies in memory."""
    plain = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {list(plain.shape)} ".encode())
    if plain.numel():
        digest.update(plain.view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
