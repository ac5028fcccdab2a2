"""One number a member, beside stacked tensors."""

from torch import Tensor


def per_member(a: Tensor, like: Tensor) -> Tensor:
    """a [M] in a shape that multiplies or compares with a stacked tensor [M, ...]."""
    return a.view(-1, *[1] * (like.ndim - 1))
