"""A method under examination: its claims, and the runs that several checks look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from klom_bench.conformance.claims import Claims, claims_of, tried_with
from klom_bench.conformance.probe import probe
from klom_bench.conformance.small_run import SmallRun
from klom_bench.conformance.small_task import MEMBERS, is_noisy
from klom_bench.conformance.watching import Outcome, Watch
from klom_bench.ensemble.inputs import tensors
from klom_bench.methods.method import Method
from klom_bench.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Subject:
    """A method, its hyperparameters (with what it is to be tried with), the task it is for."""

    method: Method
    hyperparameters: Mapping[str, Any]
    task: Task
    device: torch.device

    def __post_init__(self) -> None:
        wanted = tried_with(self.claims.tried_with)
        values = self.method.values({**self.hyperparameters, **wanted}, {})
        object.__setattr__(self, "hyperparameters", values)

    @cached_property
    def claims(self) -> Claims:
        """What its docstring says."""
        return claims_of(self.method.function)

    @cached_property
    def on_task(self) -> SmallRun:
        """On the task's own architecture."""
        return self._small_run(self.task.architecture)

    @cached_property
    def probe(self) -> SmallRun | None:
        """On a network with BatchNorm and a layer that cannot reset itself.

        None where the method cannot run there: it may be made for the task's architecture, or the
        task for inputs and outputs of another kind.
        """
        if not self.task.outputs.classes or not is_noisy(self.task):
            return None
        two = int(self.task.data.y().max()) == 1
        small = replace(self._small_run(probe(self.task)), third_class=two)
        try:
            _ = small.usual
        except Exception:
            return None
        return small

    @property
    def runs(self) -> list[SmallRun]:
        """Both, as far as the method runs there."""
        return [run for run in (self.on_task, self.probe) if run]

    def _small_run(self, architecture: Callable[[], nn.Module]) -> SmallRun:
        return SmallRun(self.task, self.method, self.hyperparameters, self.device, architecture)

    @cached_property
    def _first(self) -> tuple[Outcome, Watch, list[str]]:
        inputs = tensors(self.on_task.small.data.x_val)[0]
        watch, before = Watch(inputs.shape[1:]), self._shared()
        outcome = self.on_task.run(watch=watch)
        changed = [n for n, t in self._shared().items() if not torch.equal(t, before[n])]
        return outcome, watch, changed

    @property
    def first(self) -> Outcome:
        """The first run; others are compared with it."""
        return self._first[0]

    @property
    def changed(self) -> bool:
        """Whether that run changed any parameter, or yielded outputs of its own."""
        before, after = self.on_task.originals.states, self.first.states
        same = all(torch.equal(a[n], b[n]) for a, b in zip(before, after, strict=True) for n in a)
        return not same or self.effect > 1e-6

    @property
    def seen(self) -> Watch:
        """Which inputs were seen in that run."""
        return self._first[1]

    @property
    def touched(self) -> list[str]:
        """What that run changed of things that outlive it."""
        return self._first[2]

    def _shared(self) -> dict[str, torch.Tensor]:
        """Copies of everything that outlives a run, by name."""
        on_task = self.on_task
        found = {
            f"{name} of original {i}": tensor.clone()
            for i, state in zip(MEMBERS, on_task.originals.states, strict=True)
            for name, tensor in state.items()
        }
        small, whole = on_task.small.data_on(self.device), self.task.data
        for data, of in ((small, "the small task"), (whole, self.task.name)):
            for i, tensor in enumerate(data.tensors()):
                found[f"tensor {i} of the data of {of}"] = tensor.clone()
        return found

    @cached_property
    def effect(self) -> float:
        """By how much the method changes margins, in the mean: the scale of all comparisons."""
        change = np.abs(self.first.margins - self.on_task.originals.margins).mean()
        return max(float(change), 1e-12)

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether margins are the same: bit for bit on the CPU, but for rounding elsewhere."""
        if self.device.type == "cpu":
            return np.array_equal(a, b, equal_nan=True)
        return bool(np.nanmax(np.abs(a - b)) <= 1e-3 * self.effect)
