"""ResNet-9 for 32x32 images: keys and shapes of its state dict are those of published ones."""

from torch import Tensor, nn


class Residual(nn.Module):
    """x + module(x)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways."""
        way: Tensor = self.module(x)
        return x + way


class Scale(nn.Module):
    """Logits times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return x * self.factor


def conv_bn(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1
) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def resnet9(classes: int = 10, width: int = 64) -> nn.Sequential:
    """[B, 3, 32, 32] -> logits [B, classes]; 2,274,880 parameters at width 64.

    Source: the code of arXiv 2410.23232 and 2602.16400 (KLOM's CIFAR-10 recipe).
    """
    w, w2, w4 = width, 2 * width, 4 * width
    return nn.Sequential(
        conv_bn(3, w),
        conv_bn(w, w2, kernel=5, stride=2, padding=2),
        Residual(nn.Sequential(conv_bn(w2, w2), conv_bn(w2, w2))),
        conv_bn(w2, w4),
        nn.MaxPool2d(2),
        Residual(nn.Sequential(conv_bn(w4, w4), conv_bn(w4, w4))),
        conv_bn(w4, w2, padding=0),
        nn.AdaptiveMaxPool2d((1, 1)),
        nn.Flatten(),
        nn.Linear(w2, classes, bias=False),
        Scale(0.2),
    )
