"""What a task is."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import initial_state
from klom_bench.ensemble.training import Recipe


@dataclass(frozen=True)
class Data:
    """Train and val points: float inputs x [n, ...], int64 labels y [n].

    `sha256` names the data itself, before any arithmetic that may differ between machines.
    """

    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    sha256: str

    def x(self) -> Tensor:
        """All points, train first."""
        return torch.cat([self.x_train, self.x_val])

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
        )


@dataclass(frozen=True, eq=False)
class Task:
    """A dataset, an architecture and a recipe.

    name: as in options and seeds; folder: its name in the store.
    architecture: builds one model with random weights. load: reads the data.
    train_points: how many train points there are, known without loading them.
    forget_sets: name -> a function that gives the sorted indices of the set.
    hyperparameters: method -> its defaults on this task, where they differ from the published.
    pack: members computed together. version: raise it when architecture or data change.
    """

    name: str
    folder: str
    architecture: Callable[[], nn.Module]
    recipe: Recipe
    load: Callable[[], Data]
    train_points: int
    forget_sets: Mapping[str, Callable[[], np.ndarray]]
    hyperparameters: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pack: int = 25
    version: int = 1

    @cached_property
    def shapes(self) -> dict[str, list[int]]:
        """Shape of every entry of a model's state dict."""
        return {k: list(v.shape) for k, v in initial_state(self.architecture, 0).items()}

    @cached_property
    def data(self) -> Data:
        """The data, loaded once a process."""
        return self.load()

    @cached_property
    def _placed(self) -> dict[torch.device, Data]:
        return {}

    def data_on(self, device: torch.device) -> Data:
        """The data on a device, copied there once a process."""
        if device not in self._placed:
            self._placed[device] = self.data.to(device)
        return self._placed[device]

    def forget_data(self) -> None:
        """Read the data anew when they are next asked for."""
        self._placed.clear()
        vars(self).pop("data", None)

    def __post_init__(self) -> None:
        for kind, name in [("name", self.name), ("folder", self.folder)] + [
            ("forget set", name) for name in self.forget_sets
        ]:
            if not re.fullmatch(r"[A-Za-z_][\w.]*", str(name)):
                raise ValueError(
                    f"task {self.name!r} has the {kind} {name!r}: names are letters, digits, dots "
                    "and underscores, and begin with a letter"
                )

    def forget_set(self, name: str) -> "ForgetSet":
        """The forget set of this name; ValueError that says what is wrong with its indices."""
        return checked_forget_set(name, self.forget_sets[name](), self.train_points)


@dataclass(frozen=True)
class ForgetSet:
    """Named sorted indices into the train points: int64 [size]."""

    name: str
    indices: np.ndarray
    train_points: int

    @property
    def retain(self) -> np.ndarray:
        """The other train points, sorted: int64 [train_points - size]."""
        return np.setdiff1d(np.arange(self.train_points), self.indices)

    @property
    def sha256(self) -> str:
        """Hash of the sorted indices."""
        return hashlib.sha256(self.indices.astype("<i8").tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)


def checked_forget_set(name: str, indices: Any, train_points: int) -> ForgetSet:
    """A ForgetSet, or ValueError: empty, not integers, repeated, out of range, nothing retained."""
    found = np.asarray(indices)
    if found.ndim != 1 or found.size == 0 or found.dtype.kind not in "iu":
        raise ValueError(
            f"forget set {name!r} must be a list of integer indices with at least one entry, "
            f"got shape {found.shape} of {found.dtype}"
        )
    found = np.sort(found.astype(np.int64))
    if found[0] < 0 or found[-1] >= train_points:
        raise ValueError(
            f"forget set {name!r} has index {found[0] if found[0] < 0 else found[-1]}, the train "
            f"points are 0..{train_points - 1}: does it belong to another dataset?"
        )
    repeated = found[:-1][found[:-1] == found[1:]]
    if repeated.size:
        raise ValueError(f"forget set {name!r} holds index {repeated[0]} more than once")
    if found.size == train_points:
        raise ValueError(f"forget set {name!r} holds all train points: nothing is left to retain")
    return ForgetSet(name, found, train_points)
