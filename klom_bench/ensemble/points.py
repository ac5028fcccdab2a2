"""The train points that an ensemble may see, each member in an order of its own."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Prepare, as_they_are


class Points:
    """Labelled points as M members see them: a method's `forget` and `retain`.

    `seen` counts the examples that one member has been given so far; costs are reckoned with it.

    Args:
        x: inputs [n, ...] of all train points.
        y: int64 labels [n].
        indices: int64 [k], or [M, k] where each member has points of its own.
        generators: a random stream a member, from which its order is drawn.
        prepare: makes of a batch of x what models see.

    Example:
        >>> import torch
        >>> from klom_bench import Points
        >>> x, y = torch.arange(10.0).view(10, 1), torch.arange(10) % 2
        >>> streams = [torch.Generator().manual_seed(i) for i in range(3)]
        >>> some = Points(x, y, torch.arange(6), streams)
        >>> [tuple(batch.shape) for batch, _ in some.batches(4)], some.seen
        ([(3, 4, 1), (3, 2, 1)], 6)
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        indices: Tensor,
        generators: Sequence[torch.Generator],
        prepare: Prepare = as_they_are,
    ) -> None:
        self.x, self.y, self.indices, self.generators = x, y, indices.cpu().clone(), generators
        self.prepare = prepare
        self.seen = 0

    def __len__(self) -> int:
        return self.indices.shape[-1]

    @property
    def by_member(self) -> Tensor:
        """The indices of each member's points: int64 [M, k]."""
        return self.indices.expand(len(self.generators), len(self))

    def batches(
        self, batch_size: int, *, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch: x [M, B, ...] and y [M, B], shuffled anew by each member's own stream."""
        n = len(self)
        order = torch.stack([torch.randperm(n, generator=g) for g in self.generators])
        chosen = self.by_member.gather(1, order).to(self.x.device)
        end = n - n % batch_size if drop_last and n >= batch_size else n
        for start in range(0, end, batch_size):
            batch = chosen[:, start : start + batch_size]
            self.seen += batch.shape[1]
            yield self.prepare(self.x[batch]), self.y[batch]

    def of_member(self, i: int) -> "Points":
        """The same points for the i-th member alone."""
        indices = self.indices if self.indices.ndim == 1 else self.indices[i]
        return type(self)(self.x, self.y, indices, [self.generators[i]], self.prepare)

    def drawn(self, some: int) -> "Points":
        """So many of the points for each member, drawn from its stream."""
        chosen = [
            mine[torch.randperm(len(mine), generator=g)[:some]]
            for mine, g in zip(self.by_member, self.generators, strict=True)
        ]
        return type(self)(self.x, self.y, torch.stack(chosen), self.generators, self.prepare)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Not without a batch size."""
        raise TypeError("points come in batches: for x, y in forget.batches(64): ...")

    def cycle(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Epoch after epoch without end."""
        while True:
            yield from self.batches(batch_size)
