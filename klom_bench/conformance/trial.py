"""Small runs of a method, as the harness runs it, on a few points and watched."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.seeds import generator
from klom_bench.ensemble.threads import side_by_side
from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet, checked_forget_set
from klom_bench.harness import Run, logits_of
from klom_bench.methods.method import Method
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.margins import margins
from klom_bench.record import Cell
from klom_bench.store.layout import EnsembleId, Role
from klom_bench.store.members import train_pack
from klom_bench.tasks.data import Data
from klom_bench.tasks.task import Task

MEMBERS = [0, 1, 2]
RETAIN, VAL = 115, 32
LARGEST_FORGET, TRIED = 100, 13
"""Forget points: as many as the task's largest set has; so many of them are tried one by one."""
FEWEST = 40
SUBSETS = 40
"""Models from which datamodels are estimated here."""

IDLE = 1e-5
"""A gradient this small beside the largest is rounding (5e-8 for a bias before BatchNorm)."""

State = dict[str, Tensor]
Gradients = dict[str, list[Tensor]]
T = TypeVar("T")


class ThreeBatches(Points):
    """Points that come in three batches at least, the last one ragged, whatever is asked for."""

    def batches(
        self, batch_size: int, *, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch."""
        yield from super().batches(min(batch_size, len(self) // 3 + 1), drop_last=drop_last)


@dataclass(frozen=True)
class Outcome:
    """What a run made: margins [members, points], state dicts, epochs."""

    margins: np.ndarray
    states: Sequence[State]
    epochs: int


class Watch:
    """The inputs that models were given, as bytes that can be compared."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.inputs: set[bytes] = set()
        self.on = False

    def over(self, module: nn.Module) -> nn.Module:
        """Watch this module from now on."""
        module.register_forward_pre_hook(self._see, with_kwargs=True)
        return module

    def _see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for x in (*args, *kwargs.values()):
            # Inside vmap or grad a tensor has no values to look at; what is around has been seen.
            wrapped = isinstance(x, Tensor) and torch._C._functorch.is_functorch_wrapped_tensor(x)
            if self.on and isinstance(x, Tensor) and not wrapped:
                self.inputs |= rows(x, self.shape)


def rows(x: Tensor, shape: Sequence[int]) -> set[bytes]:
    """The single inputs of a batch, as bytes that can be compared."""
    return {row.tobytes() for row in x.detach().cpu().reshape(-1, *shape).numpy()}


@dataclass(frozen=True, eq=False)
class Trial:
    """A method with its settings, and an architecture to try it on.

    third_class: every third point is of a class that the task has not: with two classes there is
    one wrong class, and nothing to choose between.
    """

    task: Task
    method: Method
    settings: Mapping[str, Any]
    device: torch.device
    architecture: Callable[[], nn.Module]
    third_class: bool = False

    @cached_property
    def forget_count(self) -> int:
        """Of the trial: a set that is cut would otherwise look whole."""
        task = self.task
        if task.train_points < FEWEST:
            raise KlomError(
                f"{task.name} has {task.train_points} train points: conformance needs {FEWEST}"
            )
        largest = max((task.size(name) for name in task.forget_sets), default=0)
        if self.method.class_wise_only:
            largest = int(task.data.y_train.bincount().max())
        return min(max(largest, TRIED), LARGEST_FORGET, task.train_points // 2)

    @cached_property
    def tried(self) -> list[int]:
        """Positions in the forget set that are tried one by one; the first and the last are."""
        return [int(i) for i in np.linspace(0, self.forget_count - 1, TRIED)]

    @cached_property
    def small(self) -> Task:
        """A task of some of the task's points, and a spare for every forget point.

        A spare has the label of its forget point, and noise in the range of the data as its input.
        Spares are train points that belong to no set, unless they take a place.
        """
        whole, n = self.task.data, self.forget_count
        g = generator("conformance", self.task.name)
        train = torch.randperm(len(whole.y_train), generator=g)
        if self.method.class_wise_only:
            inside = whole.y_train[train] == whole.y_train.mode().values
            train = torch.cat([train[inside][:n], train[~inside][:RETAIN]])
            forget = torch.arange(n)
        else:
            train = train[: n + RETAIN]
            forget = torch.linspace(0, len(train) - 1, n).long()
        val = torch.randperm(len(whole.y_val), generator=g)[:VAL]
        x, y = whole.prepare(whole.x_train[train]), whole.y_train[train]
        if self.third_class:
            y = torch.where(torch.arange(len(y)) % 3 == 2, y.max() + 1, y)
        low, high = x.amin(0), x.amax(0)
        noise = torch.rand((n, *low.shape), generator=g)
        whole_numbers = not x.is_floating_point()
        spares = low + ((high - low + whole_numbers) * noise).to(x.dtype)
        data = Data(
            torch.cat([x, spares]),
            torch.cat([y, y[forget]]),
            whole.prepare(whole.x_val[val]),
            whole.y_val[val],
            sha256="",
        )
        return replace(
            self.task,
            architecture=self.architecture,
            load=lambda: data,
            train_points=len(data.y_train),
            forget_sets={
                "conformance": lambda: forget.numpy(),
                "spares": lambda: np.arange(len(train), len(data.y_train)),
            },
        )

    @cached_property
    def cell(self) -> Cell:
        """What the harness is asked for."""
        return Cell(
            task=self.small,
            method=self.method,
            settings=self.settings,
            forget_set=self.small.forget_set("conformance"),
            members=len(MEMBERS),
            oracles=len(MEMBERS),
            seed=0,
            estimator=ESTIMATORS["default"],
            device=self.device,
        )

    @cached_property
    def originals(self) -> Outcome:
        """Originals, trained by the task's recipe on all points but the spares."""
        states = self._trained("oracle", MEMBERS, self.small.forget_set("spares"))
        found = margins(self._logits(states), self.small.data.y().cpu()).numpy()
        return Outcome(found, states, 0)

    def _trained(
        self, role: Role, members: list[int], without: ForgetSet | None = None
    ) -> list[State]:
        ensemble = EnsembleId(self.small, role, 0, without)
        trained = self._alone(
            lambda: train_pack(ensemble, members, self.device, _nothing, _nothing)
        )
        return [t.state for t in trained]

    def _given(self, name: str, cell: Cell, pack: list[int]) -> Any:
        """What the harness would give a method that asks for this."""
        if name == "oracles":
            return oracles_for(pack, self._oracle_logits, self.small.data.y_train)
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
        return logits_of(self.small, states, self.device)

    @cached_property
    def unlearned(self) -> Outcome:
        """An ordinary run, which others are compared with."""
        return self.run()

    @cached_property
    def network(self) -> nn.Module:
        """One model, for the names of its parameters."""
        return self.architecture()

    @cached_property
    def idle(self) -> set[str]:
        """Parameters that make no difference, as a bias before BatchNorm: nothing trains them."""
        model = Ensemble(self.architecture, self.originals.states).to(self.device).train()
        data = self.small.data_on(self.device)
        x = data.x_train.expand(len(model), *data.x_train.shape).contiguous()
        cross_entropy(model(x), data.y_train.expand(len(model), -1)).backward()
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
        settings: Mapping[str, Any] | None = None,
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
        if settings is not None:
            cell = replace(cell, settings=settings)
        if other_val:
            x, known = self.small.data.x_val, self.small.data.x_train
            reflected = known.amin(0) + known.amax(0) - x
            data = replace(self.small.data, x_val=reflected.clamp(known.amin(0), known.amax(0)))
            cell = replace(cell, task=replace(self.small, load=lambda: data))
        if watch is not None:
            watched = replace(cell.task, architecture=lambda: watch.over(self.architecture()))
            cell = replace(cell, task=watched)

        def unlearn() -> Outcome:
            given = {name: self._given(name, cell, list(pack)) for name in cell.method.needs}
            run = Run(cell, list(originals or self.originals.states), list(pack), given)
            self._give_points(run, replaced or [()] * len(pack), other_retain)
            if watch is not None:
                watch.over(run.model)
                watch.on = True
            with _recorded(run.model, gradients):
                for _ in run.epochs():
                    pass
            if watch is not None:
                watch.on = False
            y = cell.task.data.y()
            return Outcome(
                margins(run.logits(run.epoch).cpu(), y).numpy(), run.model.states(), run.epoch
            )

        return self._alone(unlearn)

    def _give_points(self, run: Run, replaced: Sequence[Sequence[int]], other_retain: bool) -> None:
        """Forget points, of which some models see spares in their place, and retain points."""
        spares = torch.from_numpy(self.small.forget_set("spares").indices)
        forget = run.forget.indices.repeat(len(replaced), 1)
        for row, positions in zip(forget, replaced, strict=True):
            for position in positions:
                row[position] = spares[position]
        retain = run.retain.indices[~torch.isin(run.retain.indices, spares)]
        if other_retain:
            retain = spares[torch.arange(len(retain)) % len(spares)]
        run.forget = ThreeBatches(run.forget.x, run.forget.y, forget, run.forget.generators)
        run.retain = Points(run.retain.x, run.retain.y, retain, run.retain.generators)

    def _alone(self, work: Callable[[], T]) -> T:
        """As the harness does it: in a thread that computes with one core."""
        (result,) = side_by_side(lambda _: work(), 1, self.device)
        return result


@contextmanager
def _recorded(model: Ensemble, gradients: Gradients | None) -> Iterator[None]:
    """Keep the gradients [members, ...] of each parameter that optimizers step along."""
    if gradients is None:
        yield
        return
    names = {p: name for name, p in model.network.named_parameters()}

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            if p in names and p.grad is not None:
                gradients.setdefault(names[p], []).append(p.grad.detach().clone())

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def _nothing(*_: Any) -> None:
    pass
