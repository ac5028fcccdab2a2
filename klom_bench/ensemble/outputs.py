"""What the outputs of a model mean: its loss, its margins, and when it is right."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from klom_bench.ensemble.losses import cross_entropy
from klom_bench.errors import KlomError
from klom_bench.metrics.margins import margins

OfPoints = Callable[[Tensor, Tensor], Tensor]
"""(outputs [B, ...], y [B, ...]) -> [B]."""


@dataclass(frozen=True)
class Outputs:
    """Three functions of one model's outputs and y, each (outputs [B, ...], y [B, ...]) -> [B].

    Args:
        loss: what training makes small; its mean over a batch is a model's.
        margin: how sure a model is of y: what KLOM compares.
        right: whether a model is right, bool; None where that means nothing, as in regression.
        classes: outputs are logits [B, classes], y their numbers: methods that need classes apply.

    Example:
        >>> import torch
        >>> from klom_bench import regression
        >>> regression.margin(torch.tensor([[1.5], [2.0]]), torch.tensor([1.0, 2.5]))
        tensor([ 0.5000, -0.5000])
    """

    loss: OfPoints
    margin: OfPoints
    right: OfPoints | None = None
    classes: bool = False

    def losses(self, z: Tensor, y: Tensor) -> Tensor:
        """Losses [M, B] of outputs z [M, B, ...] and y [M, B, ...]."""
        return _of_all("loss", self.loss, z, y)

    def mean_loss(self, z: Tensor, y: Tensor) -> Tensor:
        """The mean over a batch, summed over members: a scalar."""
        if self.loss is class_loss:
            return cross_entropy(z, y)
        return self.losses(z, y).sum() / y.shape[1]

    def margins(self, z: Tensor, y: Tensor) -> Tensor:
        """Margins [M, points] of outputs z [M, points, ...] and y [points, ...]."""
        if self.margin is margins:
            found: Tensor = margins(z, y)
            return found
        return _of_all("margin", self.margin, z, y.expand(len(z), *y.shape)).float()

    def rights(self, z: Tensor, y: Tensor) -> Tensor | None:
        """Right answers, bool [M, points], where there are such."""
        if self.right is None:
            return None
        found = _of_all("right", self.right, z, y.expand(len(z), *y.shape))
        if found.dtype != torch.bool:
            raise KlomError(f"`right` gave {found.dtype}; torch.bool is expected, right or wrong")
        return found


def _of_all(name: str, function: OfPoints, z: Tensor, y: Tensor) -> Tensor:
    found: object = function(z.flatten(0, 1), y.flatten(0, 1))
    n = z.shape[:2].numel()
    if not isinstance(found, Tensor):
        raise KlomError(
            f"`{name}` gave {type(found).__name__}; a tensor with a number a point is expected"
        )
    if found.shape == (n,):
        return found.view(z.shape[:2])
    what = f"`{name}` gave {tuple(found.shape)} for {n} points, one number a point is expected"
    if not found.ndim:
        raise KlomError(f"{what}: reduction='none' in torch's losses")
    if found.shape == (n, n):
        raise KlomError(
            f"{what}: outputs {tuple(z.shape[1:])} and y {tuple(y.shape[1:])} of a batch were "
            "combined each with each: outputs.squeeze(-1)?"
        )
    raise KlomError(f"{what}: a mean over what else a point has")


def class_loss(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each point."""
    return F.cross_entropy(z, y, reduction="none")


def class_right(z: Tensor, y: Tensor) -> Tensor:
    """Whether the largest logit is that of the label."""
    return z.argmax(-1) == y


classification = Outputs(class_loss, margins, class_right, classes=True)
"""Logits [B, classes], labels int64 [B]; the usual."""


def log_odds(z: Tensor, y: Tensor) -> Tensor:
    """Of each label being what it is, for one logit a label."""
    return z.view_as(y) * (2 * y.to(z) - 1)


def binary_loss(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of one logit."""
    return F.softplus(-log_odds(z, y))


def binary_right(z: Tensor, y: Tensor) -> Tensor:
    """Whether the logit has the sign of the label."""
    return log_odds(z, y) > 0


binary = Outputs(binary_loss, log_odds, binary_right)
"""One logit [B] or [B, 1], labels 0 and 1 [B]."""


def multi_label_loss(z: Tensor, y: Tensor) -> Tensor:
    """The mean of the labels' cross-entropies."""
    return binary_loss(z, y).mean(-1)


def mean_log_odds(z: Tensor, y: Tensor) -> Tensor:
    """Of the labels of a point."""
    return log_odds(z, y).mean(-1)


def all_right(z: Tensor, y: Tensor) -> Tensor:
    """Whether all labels of a point are."""
    return binary_right(z, y).all(-1)


multi_label = Outputs(multi_label_loss, mean_log_odds, all_right)
"""A logit a label [B, labels], labels 0 and 1 [B, labels]."""


def residual(z: Tensor, y: Tensor) -> Tensor:
    """Signed: how much too high the number is."""
    return (z.view_as(y) - y).flatten(1).squeeze(1) if y.ndim > 1 else z.view_as(y) - y


def squared_residual(z: Tensor, y: Tensor) -> Tensor:
    """Its square."""
    return residual(z, y).square()


regression = Outputs(squared_residual, residual)
"""A number [B] or [B, 1], targets [B]; nothing is right or wrong."""
