"""What others have published of a task."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from klom_bench.errors import KlomError


@dataclass(frozen=True)
class Published:
    """What others have published of a task.

    train_points: how many there are, known without loading them. indices: the folder of its forget
    sets in `forget_set_indices/`. forget_sets: name -> (points, SHA-256 of the sorted indices), so
    that a file of another dataset is found out.
    """

    train_points: int
    indices: str
    forget_sets: Mapping[str, tuple[int, str]]


def not_in_store(task: str, name: str) -> np.ndarray:
    """In place of a published forget set that the store does not have."""
    number = name.removeprefix("forget_set_")
    raise KlomError(
        f"{name} of {task} is published, but not in the store: "
        f"klom download {task} --forget-set {number}"
    )
