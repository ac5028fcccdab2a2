"""A multilayer perceptron for small images."""

from torch import nn


def mlp(inputs: int = 64, hidden: int = 128, classes: int = 10) -> nn.Sequential:
    """Linear, ReLU, Linear.

    Args:
        inputs, hidden, classes: widths.

    Returns:
        A module float [B, inputs] -> logits [B, classes].

    Example:
        >>> from klom_bench import mlp
        >>> mlp(20, 16, 3)[2].out_features
        3
    """
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, classes)
    )
