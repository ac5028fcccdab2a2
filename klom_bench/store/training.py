"""Training one pack of members, and what they say of all points."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.device import ARITHMETIC, finish
from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.errors import KlomError
from klom_bench.progress import Tick
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task
from klom_bench.tasks.warm_up import import_compiler, warm_up


@dataclass(frozen=True)
class Trained:
    """A trained member: its state dict, seconds of training, examples that it has seen.

    examples: None of recipes, which see all points in each epoch.
    """

    member: int
    state: dict[str, Tensor]
    seconds: float
    examples: int | None


@dataclass(frozen=True)
class Evaluated:
    """What a trained member says: margins float32 [points], accuracy a split, mean |margin|.

    Accuracies are nan where nothing is right or wrong.
    """

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
    return ensemble.task.ensemble(states, members, streams)


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
    model = new_members(ensemble, members)
    training, before = task.training, model.fingerprints(trained=True)
    model.to(device)
    points = data.points(kept, model.generators)
    warm_up(task, len(members), device)
    if not training.is_recipe:
        import_compiler()
    start = time.perf_counter()
    model.train()
    done, epochs = 0, training.epochs
    for _ in training(model, points):
        done += 1
        tick(len(members) / epochs if done <= epochs else 0)
        check()
    tick(len(members) * max(0, epochs - done) / epochs)  # all have stopped early
    finish(device)
    seconds = (time.perf_counter() - start) / len(members)
    states = model.states()
    same = [
        i
        for i, a, b in zip(members, before, model.fingerprints(trained=True), strict=True)
        if a == b
    ]
    if same:
        raise KlomError(
            f"{training.name} changed nothing in {len(same)} of {len(members)} members of the "
            f"{ensemble.label} (the first is {same[0]}): they are as they were before training. "
            "It must change the model that it is given, in place"
        )
    if not points.seen and not points.known:
        raise KlomError(
            f"{training.name} looked at none of the points that it was given: models must be "
            "trained on these alone, else oracles have seen what is to be forgotten. Use "
            "points.batches(), points.dataset, points.tensors() or points.indices"
        )
    counted = points.seen_by_member or [points.seen] * len(members)
    uncounted = training.is_recipe or points.all_at_once or not points.seen
    examples = [None] * len(members) if uncounted else counted
    each = zip(members, states, examples, strict=True)
    return [Trained(i, state, seconds, seen) for i, state, seen in each]


def made_with(task: Task, device: torch.device) -> str:
    """What computes here: torch and the device, in words, and whether members are side by side."""
    name = platform.machine()
    if device.type == "cuda":
        name = f"{torch.cuda.get_device_name(device)} {ARITHMETIC}"
    way, why = task.way
    alone = "" if way.stacked else f", members one after the other ({why})"
    return f"torch {torch.__version__}, {device.type} {name}{alone}"


def evaluate_pack(
    ensemble: EnsembleId, states: Mapping[int, dict[str, Tensor]], device: torch.device
) -> list[Evaluated]:
    """Margins and accuracies of these members, computed together."""
    task, forget_set, members = ensemble.task, ensemble.forget_set, list(states)
    data = task.data_on(device)
    model = task.ensemble(list(states.values()), members).to(device)
    with evaluating(model):
        z = data.outputs(model, len(members))
    found = task.outputs.margins(z, data.y()).cpu().numpy()
    rights = task.outputs.rights(z, data.y())
    kept = np.stack([ensemble.kept(i) for i in members])
    splits = {"retain": kept, "val": np.arange(task.train_points, found.shape[1])[None]}
    if forget_set is not None:
        splits["forget"] = forget_set.indices[None]
    if rights is None:
        accuracy = {name: np.full(len(members), np.nan) for name in splits}
    else:
        right = rights.cpu().numpy()
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
