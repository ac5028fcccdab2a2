"""A small convolutional network with BatchNorm."""

from torch import nn


def cnn(classes: int = 10) -> nn.Sequential:
    """Three times Conv, BatchNorm, ReLU, then Linear: [B, 1, 8, 8] -> logits [B, classes]."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    return nn.Sequential(
        block(1, 8, 1), block(8, 16, 2), block(16, 32, 2), nn.Flatten(), nn.Linear(128, classes)
    )
