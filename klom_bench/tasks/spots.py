"""Margins of one member at some points, computed anew from its checkpoint."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import BATCH, evaluating, logits
from klom_bench.ensemble.inputs import at
from klom_bench.tasks.task import Task

SPOTS = 100
ROUGH, EXACT = 0.03, 0.01
"""Beside the mean size of margins: the mean difference of those computed in half precision or with
TensorFloat-32 is less than the first, of those of another member of `digits` it is .08; the largest
difference between CPUs, of other kinds too, is far less than the second (some 1e-5)."""


def spots(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Some train and some val points."""
    rng, data = np.random.default_rng(0), task.data
    train = np.sort(rng.permutation(len(data.y_train))[:SPOTS])
    return train, np.sort(rng.permutation(len(data.y_val))[:SPOTS])


def all_points(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Every train and every val point."""
    return np.arange(len(task.data.y_train)), np.arange(len(task.data.y_val))


def first_batches(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """The first batch of train and of val points, as they were evaluated together."""
    counts = (min(len(y), BATCH) for y in (task.data.y_train, task.data.y_val))
    train, val = map(np.arange, counts)
    return train, val


def margins_at(
    task: Task,
    state: Mapping[str, Tensor],
    rows: tuple[np.ndarray, np.ndarray],
    device: torch.device,
) -> tuple[np.ndarray, np.ndarray]:
    """(points, their margins by this state dict) of these train and val points."""
    data = task.data
    model = task.ensemble([state]).to(device)
    found = []
    with evaluating(model):
        for x, y, chosen in zip(
            (data.x_train, data.x_val), (data.y_train, data.y_val), rows, strict=True
        ):
            some = torch.from_numpy(chosen)
            z = logits(model, at(x, some, device), 1, data.prepare)
            found.append(task.outputs.margins(z.cpu(), y[some].cpu())[0].numpy())
    return np.concatenate([rows[0], task.train_points + rows[1]]), np.concatenate(found)


def off_by(stored: np.ndarray, computed: np.ndarray, largest: bool = False) -> float:
    """The mean (or the largest) difference beside the mean size; infinite if one is not finite."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(stored - computed)
        found = difference.max() if largest else difference.mean()
        found = found / max(np.abs(computed).mean(), 1e-9)
    return float(found) if np.isfinite(found) else float("inf")
