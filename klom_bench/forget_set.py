"""Forget sets: named indices into the train points; needs NumPy only."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from klom_bench.errors import KlomError


class OddForgetSet(KlomError, ValueError):
    """Indices that are no forget set."""


@dataclass(frozen=True, eq=False)
class ForgetSet:
    """Named sorted indices into the train points: int64 [size].

    given: the same in the order of the file that they came from, in which arrays of forget points
    alone are published.
    """

    name: str
    indices: np.ndarray
    train_points: int
    given: np.ndarray

    @cached_property
    def retain(self) -> np.ndarray:
        """The other train points, sorted: int64 [train_points - size]."""
        return np.setdiff1d(np.arange(self.train_points), self.indices)

    def splits(self, points: int) -> dict[str, np.ndarray]:
        """Which of so many points belong to forget, retain and val: train points come first."""
        val = np.arange(self.train_points, points)
        return {"forget": self.indices, "retain": self.retain, "val": val}

    @property
    def sha256(self) -> str:
        """Hash of the sorted indices."""
        return sha256_of(self.indices)

    def __len__(self) -> int:
        return len(self.indices)


def sha256_of(indices: np.ndarray) -> str:
    """Hash of indices, the same on every machine."""
    return hashlib.sha256(indices.astype("<i8").tobytes()).hexdigest()


def checked_forget_set(name: str, indices: Any, train_points: int) -> ForgetSet:
    """A ForgetSet, or ValueError: empty, not integers, repeated, out of range, nothing retained.

    indices: as numbers, or as a mask over all train points.
    """
    if isinstance(indices, ForgetSet):  # checked before
        if (indices.name, indices.train_points) == (name, train_points):
            return indices
        indices = indices.given
    found = np.asarray(indices)
    if found.ndim == 2 and found.shape[1] == 1:  # as torch's nonzero() gives them
        found = found[:, 0]
    if found.dtype == bool and found.shape == (train_points,):
        found = np.flatnonzero(found)
    if found.ndim != 1 or found.size == 0 or found.dtype.kind not in "iu":
        raise OddForgetSet(
            f"forget set {name!r} must be a list of integer indices with at least one entry, "
            f"got shape {found.shape} of {found.dtype}"
        )
    given = found.astype(np.int64)
    found = np.sort(given)
    if found[0] < 0 or found[-1] >= train_points:
        raise OddForgetSet(
            f"forget set {name!r} has index {found[0] if found[0] < 0 else found[-1]}, the train "
            f"points are 0..{train_points - 1}: does it belong to another dataset?"
        )
    repeated = found[:-1][found[:-1] == found[1:]]
    if repeated.size:
        raise OddForgetSet(f"forget set {name!r} holds index {repeated[0]} more than once")
    if found.size == train_points:
        raise OddForgetSet(f"forget set {name!r} holds all train points: nothing is left to retain")
    return ForgetSet(name, found, train_points, given)
