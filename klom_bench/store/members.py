"""Training one pack of members and looking at what came out, before anything is kept."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, logits
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.training import train
from klom_bench.errors import KlomError
from klom_bench.metrics.accuracy import accuracy
from klom_bench.metrics.margins import margins
from klom_bench.progress import Tick
from klom_bench.store.layout import EnsembleId

FAR = 0.1
"""An accuracy this far below the pack's median means that the member diverged."""

WIDE = 4.0
"""So do margins this many times as large as the pack's median; 1.1 is usual (measured).

Such a member may be accurate, but as an oracle it would stretch the bins until they hide all.
"""


@dataclass(frozen=True)
class Trained:
    """A trained member: state dict, margins float32 [points], accuracy a split, seconds."""

    member: int
    state: dict[str, Tensor]
    train_margins: np.ndarray
    val_margins: np.ndarray
    accuracy: dict[str, float]
    seconds: float
    made_with: str


def new_members(ensemble: EnsembleId, members: list[int]) -> Ensemble:
    """Untrained members, each with its own initialisation and its own stream of data orders."""
    states = [
        initial_state(ensemble.task.architecture, ensemble.member_seed(i, "init")) for i in members
    ]
    streams = [torch.Generator().manual_seed(ensemble.member_seed(i, "order")) for i in members]
    return Ensemble(ensemble.task.architecture, states, members, streams)


def train_pack(
    ensemble: EnsembleId,
    members: list[int],
    device: torch.device,
    check: Callable[[], None],
    tick: Tick,
) -> list[Trained]:
    """Train these members together; KlomError where one diverged."""
    task, forget_set = ensemble.task, ensemble.forget_set
    data = task.data_on(device)
    kept = np.arange(task.train_points) if forget_set is None else forget_set.retain
    model = new_members(ensemble, members).to(device)
    points = Points(data.x_train, data.y_train, torch.from_numpy(kept), model.generators)
    start = time.perf_counter()
    for _ in train(model, points, task.recipe):
        tick(len(members) / task.recipe.epochs)
        check()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - start) / len(members)
    with evaluating(model):
        z = logits(model, data.x(), len(members))
    found = margins(z, data.y()).cpu().numpy()
    splits = {"retain": kept, "val": np.arange(task.train_points, found.shape[1])}
    if forget_set is not None:
        splits["forget"] = forget_set.indices
    right = {
        name: accuracy(z[:, torch.from_numpy(rows).to(device)], data.y()[rows]).tolist()
        for name, rows in splits.items()
    }
    _refuse_diverged(ensemble, members, found, right["retain"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    made_with = f"torch {torch.__version__}, {device.type} {name}"
    return [
        Trained(
            member=i,
            state=state,
            train_margins=m[: task.train_points],
            val_margins=m[task.train_points :],
            accuracy={split: values[row] for split, values in right.items()},
            seconds=seconds,
            made_with=made_with,
        )
        for row, (i, state, m) in enumerate(zip(members, model.states(), found, strict=True))
    ]


def _refuse_diverged(
    ensemble: EnsembleId, members: list[int], found: np.ndarray, right: list[float]
) -> None:
    size = np.abs(found.astype(np.float64)).mean(1)
    usual, usual_size = float(np.median(right)), float(np.nanmedian(size))
    for i, own_size, a in zip(members, size, right, strict=True):
        # Written so that nan counts as diverged.
        if not (a >= usual - FAR and own_size <= WIDE * usual_size):
            raise KlomError(
                f"member {i} of the {ensemble.label} diverged in training: accuracy {a:.3f} on its "
                f"own train points and mean margin size {own_size:.3g}, where the medians of its "
                f"pack are {usual:.3f} and {usual_size:.3g}. An ensemble with such a member would "
                "make scores meaningless. Use a steadier recipe or another seed; nothing of this "
                "pack was kept"
            )
