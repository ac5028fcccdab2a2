"""Training one pack of members, and what they say of all points."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.device import finish
from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.ensemble.training import train
from klom_bench.metrics.margins import margins
from klom_bench.progress import Tick
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.warm_up import warm_up


@dataclass(frozen=True)
class Trained:
    """A trained member: its state dict, seconds of training."""

    member: int
    state: dict[str, Tensor]
    seconds: float


@dataclass(frozen=True)
class Evaluated:
    """What a trained member says: margins float32 [points], accuracy a split, mean |margin|."""

    member: int
    train_margins: np.ndarray
    val_margins: np.ndarray
    accuracy: dict[str, float]
    margin_size: float


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
    """Train these members together."""
    task = ensemble.task
    data = task.data_on(device)
    kept = np.stack([ensemble.kept(i) for i in members])
    model = new_members(ensemble, members).to(device)
    points = data.points(kept, model.generators)
    warm_up(task, len(members), device)
    start = time.perf_counter()
    for _ in train(model, points, task.recipe):
        tick(len(members) / task.recipe.epochs)
        check()
    finish(device)
    seconds = (time.perf_counter() - start) / len(members)
    states = zip(members, model.states(), strict=True)
    return [Trained(i, state, seconds) for i, state in states]


def made_with(device: torch.device) -> str:
    """What computes here: torch and the device, in words."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"torch {torch.__version__}, {device.type} {name}"


def evaluate_pack(
    ensemble: EnsembleId, states: Mapping[int, dict[str, Tensor]], device: torch.device
) -> list[Evaluated]:
    """Margins and accuracies of these members, computed together."""
    task, forget_set, members = ensemble.task, ensemble.forget_set, list(states)
    data = task.data_on(device)
    model = Ensemble(task.architecture, list(states.values()), members).to(device)
    with evaluating(model):
        z = data.logits(model, len(members))
    found = margins(z, data.y()).cpu().numpy()
    right = z.argmax(-1).eq(data.y()).cpu().numpy()
    kept = np.stack([ensemble.kept(i) for i in members])
    splits = {"retain": kept, "val": np.arange(task.train_points, found.shape[1])[None]}
    if forget_set is not None:
        splits["forget"] = forget_set.indices[None]
    accuracy = {
        name: np.take_along_axis(right, rows.repeat(len(members) // len(rows), 0), 1).mean(1)
        for name, rows in splits.items()
    }
    size = np.abs(found.astype(np.float64)).mean(1)
    return [
        Evaluated(
            member=i,
            train_margins=m[: task.train_points],
            val_margins=m[task.train_points :],
            accuracy={split: float(values[row]) for split, values in accuracy.items()},
            margin_size=float(size[row]),
        )
        for row, (i, m) in enumerate(zip(members, found, strict=True))
    ]
