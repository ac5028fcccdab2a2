"""The train points that an ensemble may see, each member in an order of its own."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from klom_bench.ensemble.device import sent
from klom_bench.ensemble.ensemble import Prepare, as_they_are
from klom_bench.ensemble.inputs import Inputs, at, is_dataset
from klom_bench.errors import KlomError


class Points:
    """Labelled points as M members see them: a method's `forget` and `retain`.

    `seen` counts the examples that one member has been given so far, those of parts included; costs
    are reckoned with it. `seen_by_member`: where members were given unlike numbers. `known`: their
    indices were asked for; `all_at_once`: a function of one model took all of them as tensors.

    Args:
        x: inputs [n, ...] of all train points (`Data.x_train`).
        y: labels [n].
        indices: int64 [k], or [M, k] where each member has points of its own.
        generators: a random stream a member, from which its order is drawn.
        prepare: makes of a batch of x what models see.
        whole: of what they are a part.

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
        x: Inputs,
        y: Tensor,
        indices: Tensor,
        generators: Sequence[torch.Generator],
        prepare: Prepare = as_they_are,
        whole: "Points | None" = None,
    ) -> None:
        self.x, self.y, self.indices, self.generators = x, y, indices.cpu().clone(), generators
        self.prepare, self.whole = prepare, whole
        self.seen = 0
        self.seen_by_member: list[int] = []
        self.known = self.all_at_once = False

    def __len__(self) -> int:
        return self.indices.shape[-1]

    @property
    def by_member(self) -> Tensor:
        """The indices of each member's points: int64 [M, k]."""
        self.known = True
        return self.indices.expand(len(self.generators), len(self))

    def batches(
        self, batch_size: int, *, drop_last: bool = False
    ) -> Iterator[tuple[Inputs, Tensor]]:
        """One epoch: x [M, B, ...] and y [M, B], shuffled anew by each member's own stream."""
        yield from map(self.at, self.rows(batch_size, drop_last=drop_last))

    def rows(self, batch_size: int, *, drop_last: bool = False) -> Iterator[Tensor]:
        """The same as numbers of train points [M, B], where the points lie."""
        n, device = len(self), self.y.device
        order = torch.stack([torch.randperm(n, generator=g) for g in self.generators])
        chosen = self.indices.expand(len(order), n).gather(1, order)
        if not is_dataset(self.x):  # all at once: there would be a copy a batch
            chosen = sent(chosen, device)
        end = n - n % batch_size if drop_last and n >= batch_size else n
        for start in range(0, end, batch_size):
            batch = chosen[:, start : start + batch_size]
            self.count(batch.shape[1])
            yield batch

    def at(self, rows: Tensor) -> tuple[Inputs, Tensor]:
        """(x, y) of train points with these numbers, of the same shape."""
        rows = rows.to(self.y.device)
        return self.prepare(at(self.x, rows, self.y.device)), self.y[rows]

    def count(self, examples: int) -> None:
        """So many more were given to a member."""
        self.seen += examples
        if self.whole is not None:
            self.whole.count(examples)

    def split(self, share: float) -> "tuple[Points, Points]":
        """A share of the points and the others, drawn for each member from its stream.

        For early stopping, say: KlomError where a part would have no points.
        """
        some = round(share * len(self))
        if not 0 < some < len(self):
            raise KlomError(f"a share of {share} of {len(self)} points leaves a part without any")
        rows = [
            mine[torch.randperm(len(mine), generator=g)]
            for mine, g in zip(self.by_member, self.generators, strict=True)
        ]
        parts = torch.stack(rows).split([some, len(self) - some], 1)
        first, second = (
            type(self)(self.x, self.y, part, self.generators, self.prepare, self) for part in parts
        )
        return first, second

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
