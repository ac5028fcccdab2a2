"""Margins of one member at some points, computed anew from its checkpoint."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, evaluating, logits
from klom_bench.metrics.margins import margins
from klom_bench.tasks.task import Task

SPOTS = 100
EXACT, ROUGH = 1e-3, 0.03
"""Margins computed in half precision, or with TensorFloat-32, are off by less than ROUGH in the
mean, those of another member of `digits` by .08; on CPUs, of other kinds too, they are off by some
1e-6."""


def at_spots(
    task: Task, state: Mapping[str, Tensor], device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """(points, their margins by this state dict), for some train and val points."""
    data = task.data
    rng = np.random.default_rng(0)
    train = np.sort(rng.permutation(len(data.y_train))[:SPOTS])
    val = np.sort(rng.permutation(len(data.y_val))[:SPOTS])
    model = Ensemble(task.architecture, [state]).to(device)
    found = []
    with evaluating(model):
        for x, y, rows in ((data.x_train, data.y_train, train), (data.x_val, data.y_val, val)):
            z = logits(model, x[torch.from_numpy(rows)].to(device), 1, data.prepare)
            found.append(margins(z.cpu(), y[torch.from_numpy(rows)].cpu())[0].numpy())
    return np.concatenate([train, task.train_points + val]), np.concatenate(found)


def off_by(stored: np.ndarray, computed: np.ndarray) -> float:
    """The mean difference beside the mean size; infinite where one is not finite."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(stored - computed).mean() / max(np.abs(computed).mean(), 1e-9)
    return float(difference) if np.isfinite(difference) else float("inf")
