"""Losses of an ensemble: the mean over a member's batch, summed over members."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, y: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits [M, B, classes] and labels y [M, B]; a scalar."""
    total = F.cross_entropy(
        logits.flatten(0, 1), y.flatten(), reduction="sum", label_smoothing=label_smoothing
    )
    return total / y.shape[1]


def kl(target: Tensor, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T² KL(softmax(target / T) || softmax(logits / T)), both [M, B, classes]; a scalar."""
    p = F.log_softmax(target / temperature, -1)
    q = F.log_softmax(logits / temperature, -1)
    return temperature**2 * F.kl_div(q, p, reduction="sum", log_target=True) / logits.shape[1]
