"""A method under examination: its claims, and the runs that several checks look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from klom_bench.conformance.claims import Claims, claims_of
from klom_bench.conformance.probe import probe
from klom_bench.conformance.trial import Outcome, Trial, Watch
from klom_bench.methods.method import Method
from klom_bench.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Subject:
    """A method, its settings, and the task that it is meant for."""

    method: Method
    settings: Mapping[str, Any]
    task: Task
    device: torch.device

    @cached_property
    def claims(self) -> Claims:
        """What its docstring says."""
        return claims_of(self.method.function)

    @cached_property
    def trial(self) -> Trial:
        """On the task's own architecture."""
        return self._trial(self.task.architecture)

    @cached_property
    def probe(self) -> Trial:
        """On a network with BatchNorm and a layer that cannot reset itself."""
        return self._trial(probe(self.task))

    def _trial(self, architecture: Callable[[], nn.Module]) -> Trial:
        return Trial(self.task, self.method, self.settings, self.device, architecture)

    @cached_property
    def _watched(self) -> tuple[Outcome, Watch]:
        watch = Watch(self.task.data.x_val.shape[1:])
        return self.trial.run(watch=watch), watch

    @property
    def unlearned(self) -> Outcome:
        """The run that others are compared with."""
        return self._watched[0]

    @property
    def seen(self) -> Watch:
        """What was seen of that run."""
        return self._watched[1]

    @cached_property
    def effect(self) -> float:
        """By how much the method changes margins, in the mean: the scale of all comparisons."""
        change = np.abs(self.unlearned.margins - self.trial.originals.margins).mean()
        return max(float(change), 1e-12)

    def same(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether margins are the same: bit for bit on the CPU, but for rounding elsewhere."""
        if self.device.type == "cpu":
            return np.array_equal(a, b, equal_nan=True)
        return bool(np.nanmax(np.abs(a - b)) <= 1e-3 * self.effect)
