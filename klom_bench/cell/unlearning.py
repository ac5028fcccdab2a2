"""Unlearning a pack of originals, epoch by epoch."""

import copy
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from klom_bench.cell.cell import Cell
from klom_bench.ensemble.device import finish
from klom_bench.ensemble.ensemble import State, evaluating
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.seeds import generator
from klom_bench.errors import KlomError

MakePoints = Callable[[Sequence[torch.Generator]], tuple[Points, Points]]


def points_of(cell: Cell, streams: Sequence[torch.Generator]) -> tuple[Points, Points]:
    """Forget and retain points of a cell, for members with these random streams."""
    data, forget_set = cell.task.data_on(cell.device), cell.forget_set
    return data.points(forget_set.indices, streams), data.points(forget_set.retain, streams)


@dataclass(frozen=True)
class Moment:
    """What a run was after an epoch. state: None where the model is in it still."""

    result: Any
    state: list[torch.Tensor] | None
    seconds: float
    examples: int


class Unlearning:
    """One pack of originals on its way to being unlearned.

    states: those of the pack's members. given: what the method asks for by name. points: makes
    forget and retain points for members with these random streams; the cell's own are usual.
    """

    def __init__(
        self,
        cell: Cell,
        states: Sequence[State],
        pack: Sequence[int],
        given: Mapping[str, Any],
        points: MakePoints | None = None,
    ) -> None:
        self.cell, self.pack, self.given = cell, list(pack), given
        self.epoch, self.seconds = 0, 0.0
        who = (cell.task.name, "unlearn", cell.forget_set.name, cell.seed)
        streams = [generator(*who, i) for i in pack]
        model = cell.task.ensemble(states, pack, streams)
        self.before = model.fingerprints()
        self.model = model.to(cell.device)
        self.forget, self.retain = (points or partial(points_of, cell))(streams)
        self.result: Any = self.model
        self.begun = False
        self.moments: dict[int, Moment] = {}

    def epochs(self) -> Iterator[None]:
        """Run the method to its end."""
        method = self.cell.method
        self.begun = True
        self.model.train()
        start, wanted = time.perf_counter(), self.cell.epochs
        steps = method(
            self.model,
            self.forget,
            self.retain,
            **self.given,
            **self.cell.hyperparameters,
        )
        if not isinstance(steps, Iterator):
            raise KlomError(_yields_nothing(self.cell))
        for result in steps:
            self.epoch += 1
            if result is not None and not callable(result):
                raise KlomError(
                    f"{method.name} yielded {result!r}: yield nothing where the model was changed, "
                    "or an object that is called like the model"
                )
            if result is not None:
                self.result = result
            if self.epoch in wanted:
                self._keep(start, [v.clone() for v in self.model.network.state_dict().values()])
            yield
            if wanted and self.epoch == wanted[-1]:
                break
        if not self.epoch:
            raise KlomError(_yields_nothing(self.cell))
        if self.epoch not in self.moments:
            self._keep(start, None)

    def _keep(self, start: float, state: list[torch.Tensor] | None) -> None:
        finish(self.cell.device)
        self.seconds = time.perf_counter() - start
        own = isinstance(self.result, torch.nn.Module) and self.result is not self.model
        result = copy.deepcopy(self.result) if own and state is not None else self.result
        self.moments[self.epoch] = Moment(result, state, self.seconds, self.examples)

    @property
    def examples(self) -> int:
        """Training examples that one member has seen."""
        return self.forget.seen + self.retain.seen

    def logits(self, epoch: int) -> torch.Tensor:
        """Logits [pack, points, classes] of what the method had made by an epoch, on all points.

        The model is put back to where it was then.
        """
        data = self.cell.task.data_on(self.cell.device)
        points, moment = len(data.y()), self.moments[epoch]
        values = self.model.network.state_dict().values()
        with evaluating(self.model):
            for value, then in zip(values, moment.state or values, strict=True):
                value.copy_(then)
            z = data.outputs(moment.result, len(self.pack))
        classes = self.cell.task.outputs.classes
        if z.shape[:2] != (len(self.pack), points) or (classes and z.ndim != 3):
            kind = "logits [members, points, classes]" if classes else "[members, points, ...]"
            raise KlomError(
                f"{self.cell.method.name} made outputs of shape {tuple(z.shape)}, where {kind} of "
                f"{len(self.pack)} members and {points} points are expected: the object that it "
                "yields must be called like the model"
            )
        return z

    def unchanged(self) -> list[bool]:
        """Whether a member's parameters and buffers are the original's still."""
        pairs = zip(self.before, self.model.fingerprints(), strict=True)
        return [before == after for before, after in pairs]


def epochs_to_score(cell: Cell, ended: Collection[int]) -> tuple[int, ...]:
    """Those to score: as asked, but the end of a method that has one epoch by its nature.

    ended: the epochs at whose end packs were done.
    """
    epochs = sorted(ended)
    if len(epochs) > 1:
        raise KlomError(
            f"{cell.method.name} yielded {epochs} times for different members: all must have the "
            "same number of epochs"
        )
    if not cell.epochs or (epochs == [1] and "epochs" not in cell.hyperparameters):
        return (epochs[0],)
    if epochs[0] < cell.epochs[-1]:
        raise KlomError(
            f"{cell.method.name} yielded {epochs[0]} times with {dict(cell.hyperparameters)}, and "
            f"--klom-epochs asks for epoch {cell.epochs[-1]}"
        )
    return cell.epochs


def _yields_nothing(cell: Cell) -> str:
    return (
        f"{cell.method.name} never yielded with {dict(cell.hyperparameters)}: a method is a "
        "generator function that yields after every epoch (one `yield` at its end is enough); wrap "
        "a function for a single model with klom_bench.per_model"
    )
