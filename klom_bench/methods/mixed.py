"""Train points shuffled together with points that members made themselves."""

from collections.abc import Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.points import Points


def mixed(
    points: Points, rows: Tensor, x_made: Tensor, y_made: Tensor, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch over rows [M, k], shuffled: x [M, B, ...] and y [M, B].

    Rows are numbers of train points 0 ... n - 1, of which `points` are some; n + i is the i-th of
    those that each member made: x_made [M, a, ...], as models see them, and y_made [M, a].
    """
    n = len(points.y)
    numbers = torch.arange(n + y_made.shape[1], device=points.y.device)
    member = torch.arange(len(y_made), device=points.y.device).unsqueeze(1)
    for row, _ in Points(numbers, numbers, rows, points.generators).batches(batch_size):
        old, new, is_made = row.clamp(max=n - 1), (row - n).clamp(min=0), row >= n
        x, y = points.at(old)
        yield (
            torch.where(is_made.view(*is_made.shape, *[1] * (x.ndim - 2)), x_made[member, new], x),
            torch.where(is_made, y_made[member, new], y),
        )
