"""Training one pack of members and looking at what came out, before anything is kept."""

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median_low

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.ensemble.training import train
from klom_bench.errors import KlomError
from klom_bench.metrics.far import FAR, WIDE
from klom_bench.metrics.margins import margins
from klom_bench.progress import Tick
from klom_bench.store.layout import EnsembleId
from klom_bench.store.manifest import Member


@dataclass(frozen=True)
class Trained:
    """A trained member: state dict, margins float32 [points], accuracy a split, mean
    |margin|, seconds of training."""

    member: int
    state: dict[str, Tensor]
    train_margins: np.ndarray
    val_margins: np.ndarray
    accuracy: dict[str, float]
    margin_size: float
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
    """Train these members together."""
    task, forget_set = ensemble.task, ensemble.forget_set
    data = task.data_on(device)
    kept = np.stack([ensemble.kept(i) for i in members])
    model = new_members(ensemble, members).to(device)
    points = data.points(kept, model.generators)
    start = time.perf_counter()
    for _ in train(model, points, task.recipe):
        tick(len(members) / task.recipe.epochs)
        check()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = (time.perf_counter() - start) / len(members)
    with evaluating(model):
        z = data.logits(model, len(members))
    found = margins(z, data.y()).cpu().numpy()
    right = z.argmax(-1).eq(data.y()).cpu().numpy()
    splits = {"retain": kept, "val": np.arange(task.train_points, found.shape[1])[None]}
    if forget_set is not None:
        splits["forget"] = forget_set.indices[None]
    accuracy = {
        name: np.take_along_axis(right, rows.repeat(len(members) // len(rows), 0), 1).mean(1)
        for name, rows in splits.items()
    }
    size = np.abs(found.astype(np.float64)).mean(1)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    made_with = f"torch {torch.__version__}, {device.type} {name}"
    return [
        Trained(
            member=i,
            state=state,
            train_margins=m[: task.train_points],
            val_margins=m[task.train_points :],
            accuracy={split: float(values[row]) for split, values in accuracy.items()},
            margin_size=float(size[row]),
            seconds=seconds,
            made_with=made_with,
        )
        for row, (i, state, m) in enumerate(zip(members, model.states(), found, strict=True))
    ]


def refuse_diverged(
    ensemble: EnsembleId, trained: list[Trained], company: Mapping[int, Member]
) -> None:
    """KlomError where a member is far from the others, those in the store included."""
    accuracies = [t.accuracy["retain"] for t in trained]
    accuracies += [member.accuracy["retain"] for member in company.values()]
    sizes = [t.margin_size for t in trained] + [member.margin_size for member in company.values()]
    finite = [size for size in sizes if np.isfinite(size)]
    usual, usual_size = median_low(accuracies), median_low(finite or [0.0])
    chance = 1 / (int(ensemble.task.data.y().max()) + 1)
    for t in trained:
        a = t.accuracy["retain"]
        # Written so that nan counts as diverged.
        if not (a >= max(usual - FAR, chance + FAR) and t.margin_size <= WIDE * usual_size):
            raise KlomError(
                f"member {t.member} of the {ensemble.label} diverged in training: accuracy {a:.3f} "
                f"on its own train points and mean margin size {t.margin_size:.3g}, where the "
                f"medians are {usual:.3f} and {usual_size:.3g} and chance is {chance:.3g}. An "
                "ensemble with such a member would make scores meaningless. Use a steadier recipe "
                "or another seed; nothing of this pack was kept"
            )
