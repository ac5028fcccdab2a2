"""What members were after an epoch of unlearning."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.cell.unlearning import Unlearning
from klom_bench.files.scratch import scratch


@dataclass(frozen=True)
class After:
    """What members were after an epoch, a row a member.

    margins: float32 [N, points]. right: right answers, bool [N, points], None where there are no
    such. seconds: float64 [N].
    examples: int64 [N], those seen. unchanged: bool [N], the original still; told of the last
    epoch.
    """

    margins: np.ndarray
    right: np.ndarray | None
    seconds: np.ndarray
    examples: np.ndarray
    unchanged: np.ndarray

    def first(self, members: int) -> "After":
        """Of so many members."""
        right = None if self.right is None else self.right[:members]
        others = (self.margins, self.seconds, self.examples, self.unchanged)
        margins, seconds, examples, unchanged = (x[:members] for x in others)
        return After(margins, right, seconds, examples, unchanged)

    @classmethod
    def of_nobody_yet(cls, cell: Cell) -> "After":
        """Room for all members of a cell."""
        n, points = cell.members, len(cell.task.data.y())
        return cls(
            margins=scratch((n, points)),
            right=scratch((n, points), bool) if cell.task.outputs.right else None,
            seconds=np.zeros(n),
            examples=np.zeros(n, int),
            unchanged=np.zeros(n, bool),
        )

    def put(self, pack: Sequence[int], rows: "After") -> None:
        """Fill in those of a pack."""
        self.margins[pack] = rows.margins
        if self.right is not None and rows.right is not None:
            self.right[pack] = rows.right
        self.seconds[pack], self.examples[pack] = rows.seconds, rows.examples
        self.unchanged[pack] = rows.unchanged


def looked_at(
    run: Unlearning, epochs: Sequence[int], originals: np.ndarray
) -> Iterator[tuple[int, After]]:
    """(epoch, what a pack's members were after it); margins [pack, points] of the originals."""
    n, y, outputs = len(run.pack), run.cell.task.data.y(), run.cell.task.outputs
    run.model.zero_grad()  # gradients are as large as the model
    for epoch in epochs:
        moment, z = run.moments[epoch], run.logits(epoch).cpu()
        margins, rights = outputs.margins(z, y).numpy(), outputs.rights(z, y)
        same = np.zeros(n, bool)
        if epoch == epochs[-1] and not run.cell.method.traits.changes_nothing:
            same[:] = are_unchanged(run, margins, originals)
        yield (
            epoch,
            After(
                margins=margins,
                right=None if rights is None else rights.numpy(),
                seconds=np.full(n, moment.seconds / n),
                examples=np.full(n, moment.examples),
                unchanged=same,
            ),
        )


def are_unchanged(run: Unlearning, unlearned: np.ndarray, originals: np.ndarray) -> Sequence[bool]:
    """Which of a pack's members are the originals still; margins [pack, points] of both.

    Where outputs were changed, not weights, margins tell.
    """
    if run.result is run.model:
        return run.unchanged()
    same: list[bool] = np.isclose(unlearned, originals, rtol=0, atol=1e-6).all(1).tolist()
    return same
