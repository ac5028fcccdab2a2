"""A multilayer perceptron for small images."""

from torch import nn


def mlp(inputs: int = 64, hidden: int = 128, classes: int = 10) -> nn.Sequential:
    """Linear, ReLU, Linear: [B, inputs] -> logits [B, classes]."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, classes)
    )
