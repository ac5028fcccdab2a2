"""The points of one member, for functions that were written for one model."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Dataset

from klom_bench.ensemble.inputs import Inputs, each
from klom_bench.ensemble.points import Points


class OneMembersPoints:
    """Points as a single model sees them: batches x [B, ...], y [B]."""

    def __init__(self, points: Points, generator: torch.Generator) -> None:
        self.points, self.generator = points, generator

    def __len__(self) -> int:
        return len(self.points)

    @property
    def indices(self) -> Tensor:
        """Their numbers among the train points: int64 [k]."""
        return self.points.by_member[0]

    @property
    def seed(self) -> int:
        """The seed of the member's stream."""
        return self.generator.initial_seed()

    @property
    def dataset(self) -> Dataset[tuple[Inputs, Tensor]]:
        """The pairs (x, y), for a `torch.utils.data.DataLoader` of one's own.

        Give that `generator=points.generator`, so that the order is the member's. What workers of a
        DataLoader read is not counted in the cost.
        """
        self.points.known = True
        return _Pairs(self.points)

    def batches(
        self, batch_size: int, *, drop_last: bool = False
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """One epoch, shuffled anew."""
        for x, y in self.points.batches(batch_size, drop_last=drop_last):
            yield each(lambda t: t[0], x), y[0]

    def tensors(self) -> tuple[Inputs, Tensor]:
        """All at once, in the order of `indices`: x [k, ...], y [k].

        They count once, however often they are used.
        """
        self.points.count(len(self))
        self.points.all_at_once = True
        return self.points.at(self.indices)

    def split(self, share: float) -> "tuple[OneMembersPoints, OneMembersPoints]":
        """A share of them, drawn from the member's stream, and the others."""
        a, b = self.points.split(share)
        return OneMembersPoints(a, self.generator), OneMembersPoints(b, self.generator)


@dataclass(frozen=True)
class _Pairs(Dataset[tuple[Inputs, Tensor]]):
    points: Points

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, i: int) -> tuple[Inputs, Tensor]:
        if not -len(self) <= i < len(self):
            raise IndexError(f"point {i} of {len(self)}")  # which ends a loop over the pairs
        self.points.count(1)
        x, y = self.points.at(self.points.by_member[0, i].view(1))
        return each(lambda t: t[0], x), y[0]
