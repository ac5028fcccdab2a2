"""What a method may ask for by name beside forget and retain set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from klom_bench.errors import KlomError
from klom_bench.metrics.margins import margins
from klom_bench.tasks.data import Data

SUBSETS = 2000
"""Models from which datamodels are estimated."""


@dataclass(frozen=True)
class Oracles:
    """What the oracles say of the train points [n]: logits [M, n, classes], margins [M, n].

    Member i is given those of oracle i; mean [n, classes] are the logits of all oracles
    in the mean.
    """

    logits: Tensor
    margins: Tensor
    mean: Tensor


def oracles_for(pack: Sequence[int], logits: Tensor, labels: Tensor) -> Oracles:
    """For the members of a pack; logits [oracles, points, classes] are those of all oracles."""
    on_train = logits[:, : len(labels)]
    mine = on_train[[i % len(logits) for i in pack]]
    return Oracles(mine, margins(mine, labels), on_train.mean(0))


@dataclass(frozen=True)
class Datamodels:
    """Linear datamodels, estimated from K models that were trained on random halves.

    masks: bool [K, train points], what each model saw. logits: float [K, points, classes].
    Source: Ilyas 2022 (arXiv 2202.00622), section 2; least squares with a ridge in place of LASSO.
    """

    masks: np.ndarray
    logits: Tensor
    data: Data

    def first(self, count: int) -> "Datamodels":
        """From the first models only."""
        return replace(self, masks=self.masks[:count], logits=self.logits[:count])

    def removal(self, rows: Tensor, ridge: float) -> Tensor:
        """Σ over z in `rows` of τ(z, x): by how much logits fall without them [points, classes].

        τ = (AᵀA + K ρ I)⁻¹ Aᵀ Z with A, Z the centred masks and logits and ρ the ridge, so that the
        sum over F is wᵀ Z with one weight a model: w = A (AᵀA + K ρ I)⁻¹ 1_F, which is
        (AAᵀ + K ρ I)⁻¹ A 1_F.
        """
        a = torch.from_numpy(self.masks).double()
        a -= a.mean(0)
        k, n = a.shape
        ones = torch.zeros(n, dtype=a.dtype)
        ones[rows] = 1
        if n < k:
            w = a @ torch.linalg.solve(a.T @ a + k * ridge * torch.eye(n, dtype=a.dtype), ones)
        else:
            w = torch.linalg.solve(a @ a.T + k * ridge * torch.eye(k, dtype=a.dtype), a @ ones)
        found: Tensor = torch.tensordot(w.to(self.logits), self.logits, 1)
        return found

    @cached_property
    def _place(self) -> dict[bytes, int]:
        parts = [part for x in (self.data.x_train, self.data.x_val) for part in x.split(512)]
        keys = (key for part in parts for key in _keys(self.data.prepare(part)))
        return {key: i for i, key in enumerate(keys)}

    def subtracted(
        self, f: Callable[[Tensor], Tensor], change: Tensor
    ) -> Callable[[Tensor], Tensor]:
        """x [M, B, ...] -> f(x) - change at x, x of the data; change [M or 1, points, classes]."""

        def corrected(x: Tensor) -> Tensor:
            alike = bool((x == x[:1]).all())
            try:
                places = [
                    [self._place[key] for key in _keys(one)] for one in (x[:1] if alike else x)
                ]
            except KeyError:
                raise KlomError(
                    "datamodels are of the task's own points, and say nothing of other inputs"
                ) from None
            at = torch.tensor(places)
            rows = (
                change[:, at[0]]
                if alike
                else change.expand(len(x), -1, -1)[torch.arange(len(x))[:, None], at]
            )
            return f(x) - rows.to(x.device)

        return corrected


def _keys(x: Tensor) -> list[bytes]:
    """Inputs as bytes that can be looked up."""
    flat: np.ndarray = x.detach().cpu().flatten(1).numpy()
    return [row.tobytes() for row in flat]
