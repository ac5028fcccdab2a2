"""What a method may ask for by name beside forget and retain set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from klom_bench.ensemble.device import sent
from klom_bench.ensemble.inputs import Inputs, count, each, tensors
from klom_bench.ensemble.outputs import Outputs, classification
from klom_bench.errors import KlomError
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


def oracles_for(
    pack: Sequence[int], logits: Tensor, labels: Tensor, outputs: Outputs = classification
) -> Oracles:
    """For the members of a pack; logits [oracles, points, classes] are those of all oracles."""
    on_train = logits[:, : len(labels)]
    mine = on_train[[i % len(logits) for i in pack]]
    return Oracles(mine, outputs.margins(mine, labels), on_train.mean(0))


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
        keys = (
            key
            for x in (self.data.x_train, self.data.x_val)
            for rows in torch.arange(count(x)).split(512)
            for key in _keys(self.data.seen(x, rows))
        )
        places: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            places.setdefault(key, i)  # inputs may be there twice
        return places

    def places(self, x: Inputs) -> Tensor:
        """Which points of the data these inputs [B, ...] are; KlomError for any other."""
        try:
            return torch.tensor([self._place[key] for key in _keys(x)])
        except KeyError:
            raise KlomError(
                "datamodels are of the task's own points, and say nothing of other inputs"
            ) from None


@dataclass(frozen=True)
class Corrected:
    """f(x) - change at x, for x of the data; change [M or 1, points, classes].

    Called like a model it looks up which points it is given; `of_points` is told.
    """

    f: Callable[[Inputs], Tensor]
    change: Tensor
    datamodels: Datamodels

    def __call__(self, x: Inputs) -> Tensor:
        """Outputs [M, B, classes] of x [M, B, ...]."""
        members = count(x)
        alike = all(bool((t == t[:1]).all()) for t in tensors(x))
        if alike:
            return self.of_points(x, self.datamodels.places(each(lambda t: t[0], x)))
        every = [self.datamodels.places(each(lambda t, i=i: t[i], x)) for i in range(members)]
        member, change = torch.arange(members)[:, None], self.change
        z = self.f(x)
        return z - change.expand(members, *change.shape[1:])[member, torch.stack(every)].to(z)

    def of_points(self, x: Inputs, numbers: Tensor) -> Tensor:
        """The same of points with these numbers [B], the same for all members."""
        z = self.f(x)
        return z - sent(self.change[:, numbers], z.device).to(z)


def _keys(x: Inputs) -> list[bytes]:
    """Inputs as bytes that can be looked up."""
    parts = [t.detach().cpu().flatten(1).numpy() for t in tensors(x)]
    return [b"".join(row.tobytes() for row in rows) for rows in zip(*parts, strict=True)]
