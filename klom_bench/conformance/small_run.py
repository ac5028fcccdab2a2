"""Small runs of a method, as the harness runs it, on a few points and watched."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from klom_bench.cell.cell import Cell
from klom_bench.cell.loading import already_read, logits_of
from klom_bench.cell.unlearning import Unlearning
from klom_bench.conformance.small_task import (
    MEMBERS,
    TRIED,
    alone,
    forget_count,
    originals_of,
    small_task,
    trained,
)
from klom_bench.conformance.watching import Gradients, Outcome, ThreeBatches, Watch, recorded
from klom_bench.ensemble.ensemble import State
from klom_bench.ensemble.inputs import Inputs, each
from klom_bench.ensemble.points import Points
from klom_bench.forget_set import ForgetSet, checked_forget_set
from klom_bench.methods.method import Method
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.tasks.data import Data
from klom_bench.tasks.ensemble_id import EnsembleId, Role
from klom_bench.tasks.task import Task

SUBSETS = 40
"""Models from which datamodels are estimated here."""

IDLE = 1e-5
"""A gradient this small beside the largest is rounding (5e-8 for a bias before BatchNorm)."""


@dataclass(frozen=True, eq=False)
class SmallRun:
    """A method with its hyperparameters, and an architecture to try it on.

    third_class: every third point is of a class that the task has not: with two classes there is
    one wrong class, and nothing to choose between.
    """

    task: Task
    method: Method
    hyperparameters: Mapping[str, Any]
    device: torch.device
    architecture: Callable[[], nn.Module]
    third_class: bool = False

    @cached_property
    def forget_count(self) -> int:
        """Points of the small forget set."""
        return forget_count(self.task, self.method.traits.class_wise)

    @cached_property
    def tried(self) -> list[int]:
        """Positions in the forget set that are tried one by one; the first and the last are."""
        return [int(i) for i in np.linspace(0, self.forget_count - 1, TRIED)]

    @cached_property
    def small(self) -> Task:
        """A task of some of the task's points, and a spare for every forget point."""
        return small_task(
            self.task, self.architecture, self.method.traits.class_wise, self.third_class
        )

    @cached_property
    def cell(self) -> Cell:
        """What the harness is asked for."""
        return Cell(
            task=self.small,
            method=self.method,
            hyperparameters=self.hyperparameters,
            forget_set=self.small.forget_set("conformance"),
            members=len(MEMBERS),
            oracles=len(MEMBERS),
            seed=0,
            estimator=ESTIMATORS["default"],
            device=self.device,
        )

    @cached_property
    def originals(self) -> Outcome:
        """Originals, trained by the task's recipe on all points but the spares.

        Copies, since the method may spoil what it is given.
        """
        kept = originals_of(
            self.task,
            self.architecture,
            self.method.traits.class_wise,
            self.third_class,
            self.device,
        )
        return copy.deepcopy(kept)

    def _trained(
        self, role: Role, members: list[int], without: ForgetSet | None = None
    ) -> list[State]:
        return trained(EnsembleId(self.small, role, 0, without), members, self.device)

    def _given(self, name: str, cell: Cell, pack: list[int]) -> Any:
        """What the harness would give a method that asks for this."""
        if name == "oracles":
            return oracles_for(
                pack, self._oracle_logits, self.small.data.y_train, self.small.outputs
            )
        if name == "datamodels":
            half = EnsembleId(self.small, "subset", 0)
            return Datamodels(half.masks(SUBSETS), self._subset_logits, cell.task.data)
        return cell.task

    @cached_property
    def _oracle_logits(self) -> Tensor:
        sets = (self.small.forget_set(name).indices for name in ("conformance", "spares"))
        without = np.concatenate(list(sets))
        both = checked_forget_set("both", without, self.small.train_points)
        return self._logits(self._trained("oracle", MEMBERS, both))

    @cached_property
    def _subset_logits(self) -> Tensor:
        return self._logits(self._trained("subset", list(range(SUBSETS))))

    def _logits(self, states: Sequence[State]) -> Tensor:
        return logits_of(self.small, already_read(states), len(states), self.device)

    @cached_property
    def usual(self) -> Outcome:
        """An ordinary run, which others are compared with."""
        return self.run()

    @cached_property
    def network(self) -> nn.Module:
        """One model, for the names of its parameters."""
        return self.architecture()

    @cached_property
    def idle(self) -> set[str]:
        """Parameters that make no difference, as a bias before BatchNorm: nothing trains them."""
        model = self.small.ensemble(self.originals.states).to(self.device).train()
        data = self.small.data_on(self.device)
        m = len(model)
        x = each(lambda t: t.expand(m, *t.shape).contiguous(), data.x_train)
        model.loss(x, data.y_train.expand(m, *data.y_train.shape)).backward()
        sizes = {
            n: float(p.grad.abs().max())
            for n, p in model.network.named_parameters()
            if p.grad is not None
        }
        return {
            name
            for name, _ in self.network.named_parameters()
            if sizes.get(name, 0.0) <= IDLE * max(sizes.values())
        }

    def run(
        self,
        pack: Sequence[int] = MEMBERS,
        *,
        originals: Sequence[State] | None = None,
        hyperparameters: Mapping[str, Any] | None = None,
        replaced: Sequence[Sequence[int]] | None = None,
        other_retain: bool = False,
        other_val: bool = False,
        watch: Watch | None = None,
        gradients: Gradients | None = None,
    ) -> Outcome:
        """Unlearn.

        replaced: for every model of the pack the forget points (positions in the forget set) in
        whose place it sees their spares. other_retain: spares in place of all retain points.
        other_val: other val inputs in the task. gradients: is filled with those that optimizers
        step along.
        """
        cell = self.cell
        if hyperparameters is not None:
            cell = replace(cell, hyperparameters=hyperparameters)
        if other_val:
            data = replace(self.small.data, x_val=_other(self.small.data))
            cell = replace(cell, task=replace(self.small, load=lambda: data))
        if watch is not None:
            watched = replace(cell.task, architecture=lambda: watch.over(self.architecture()))
            cell = replace(cell, task=watched)

        def unlearn() -> Outcome:
            given = {name: self._given(name, cell, list(pack)) for name in cell.method.needs}
            run = Unlearning(
                cell,
                already_read(originals or self.originals.states)(pack),
                pack,
                given,
                lambda streams: self._points(streams, replaced or [()] * len(pack), other_retain),
            )
            if watch is not None:
                watch.over(run.model)
                watch.on = True
            with recorded(run.model, gradients):
                for _ in run.epochs():
                    pass
            if watch is not None:
                watch.on = False
            y = cell.task.data.y()
            return Outcome(
                self.small.outputs.margins(run.logits(run.epoch).cpu(), y).numpy(),
                run.model.states(),
                run.epoch,
            )

        return alone(unlearn, self.device)

    def _points(
        self,
        streams: Sequence[torch.Generator],
        replaced: Sequence[Sequence[int]],
        other_retain: bool,
    ) -> tuple[Points, Points]:
        """Forget points, of which some models see spares in their place, and retain points."""
        data, forget_set = self.small.data_on(self.device), self.small.forget_set("conformance")
        spares = torch.from_numpy(self.small.forget_set("spares").indices)
        forget = torch.from_numpy(forget_set.indices).repeat(len(replaced), 1)
        for row, positions in zip(forget, replaced, strict=True):
            for position in positions:
                row[position] = spares[position]
        retain = torch.from_numpy(forget_set.retain)
        retain = retain[~torch.isin(retain, spares)]
        if other_retain:
            retain = spares[torch.arange(len(retain)) % len(spares)]
        return (
            ThreeBatches(data.x_train, data.y_train, forget, streams),
            Points(data.x_train, data.y_train, retain, streams),
        )


def _other(data: Data) -> Inputs:
    """Val inputs that are none: reflected in the range of the train points, else those of such."""
    x, known = data.x_val, data.x_train
    if not isinstance(x, Tensor):
        n = len(data.y_val)
        return each(lambda t: t[:n], known)
    low, high = known.amin(0), known.amax(0)
    return (low + high - x).clamp(low, high)
