"""Losses of an ensemble: the mean over a member's batch, summed over members."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of an ensemble: the mean over a batch, summed over members.

    So that members never mix: each member's gradient is that of its own mean loss.

    Args:
        logits: float [M, B, classes].
        y: int64 labels [M, B].
        label_smoothing: share of the target that is spread evenly over all classes.

    Returns:
        A scalar, in nats.

    Raises:
        IndexError: a label is no class.

    Example:
        >>> import torch
        >>> from klom_bench import cross_entropy
        >>> cross_entropy(torch.zeros(3, 8, 2), torch.zeros(3, 8, dtype=torch.long))
        tensor(2.0794)

    Source: 3 ln 2, since each of three members has a loss of ln 2.
    """
    total = F.cross_entropy(
        logits.flatten(0, 1), y.flatten(), reduction="sum", label_smoothing=label_smoothing
    )
    return total / y.shape[1]


def kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(softmax(target / T) || softmax(logits / T)): mean over a batch, sum over members.

    Args:
        target: float logits [M, B, classes] of what is imitated.
        logits: float [M, B, classes] of what is trained.
        temperature: T.

    Returns:
        A scalar, in nats.

    Raises:
        RuntimeError: the shapes do not fit.

    Example:
        >>> import torch
        >>> from klom_bench import kl
        >>> z = torch.randn(3, 8, 10)
        >>> kl(z, z)
        tensor(0.)

    Source: Hinton 2015 (arXiv 1503.02531), section 2, for T².
    """
    p = F.log_softmax(target / temperature, -1)
    q = F.log_softmax(logits / temperature, -1)
    return temperature**2 * F.kl_div(q, p, reduction="sum", log_target=True) / logits.shape[1]
