"""torchvision's ResNet-18 with another number of classes."""

from torch import nn


def resnet18(classes: int = 17) -> nn.Module:
    """[B, 3, H, W] -> logits [B, classes]; 11.2 million parameters, random weights."""
    from torchvision import models  # takes a second; only this task needs it

    network: nn.Module = models.resnet18(weights=None, num_classes=classes)
    return network
