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
from klom_bench.metrics.margins import margins

PARTS = ("x_train", "y_train", "x_val", "y_val")


@dataclass(frozen=True)
class Data:
    """Train and val points.

    Args:
        x_train, x_val: inputs [n, ...]; train and val images may differ in size.
        y_train, y_val: int64 labels [n], 0 ... classes - 1.
        sha256: the word for the data in stores made before data were hashed; new ones need none.
        prepare: makes of a batch of x the float inputs of a model, on x's device: images stay uint8
            until then.

    Example:
        >>> import torch
        >>> from klom_bench import Data
        >>> x, y = torch.randn(300, 20), torch.arange(300) % 3
        >>> Data(x[:200], y[:200], x[200:], y[200:]).classes
        3
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

    def margins(self, model: Any, members: int) -> Tensor:
        """Margins [M, points] of all points, train first."""
        found: Tensor = margins(self.logits(model, members), self.y())
        return found

    @property
    def classes(self) -> int:
        """How many classes there are: labels are 0 ... classes - 1."""
        return int(self.y().max()) + 1

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
