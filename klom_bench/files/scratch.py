"""Where results of all members are gathered: in memory, and in a file where they are large."""

import math
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

LARGE = 2**28
"""Bytes of all members together that are not held in memory."""


def scratch(shape: Sequence[int], dtype: Any = np.float32) -> np.ndarray:
    """An array to be filled; a large one is mapped to a nameless file, which goes with it."""
    if math.prod(shape) * np.dtype(dtype).itemsize < LARGE:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="klom_") as file:
        return np.memmap(file, dtype, "w+", shape=tuple(shape))


def stacked(rows: Iterator[np.ndarray], count: int) -> np.ndarray:
    """So many arrays of one shape and dtype [count, ...], each let go as soon as it is copied."""
    first = next(rows)
    whole = scratch((count, *first.shape), first.dtype)
    whole[0] = first
    for i, row in enumerate(rows, 1):
        whole[i] = row
    return whole
