"""Where models run."""

import re

import torch
from torch import Tensor

from klom_bench.errors import KlomError

ARITHMETIC = "IEEE float32"
"""Of margins, and of all that a recipe does not have in mixed precision."""


def as_on_a_cpu() -> None:
    """float32 is IEEE's on a GPU, too: TF32, which torch takes for convolutions, has 10 bits.

    Which algorithm a library takes is left to it, so that on a GPU two runs differ in last bits.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def device_named(name: str) -> torch.device:
    """auto, cpu, cuda or cuda:N, set to compute as here; KlomError where it is not there."""
    as_on_a_cpu()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,4})?", name):
        raise KlomError(f"the device must be auto, cpu, cuda or cuda:N, got {name!r}")
    device = torch.device(name)
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise KlomError(
            f"device {name}: torch {torch.__version__} sees {count} CUDA devices here; "
            "use the device cpu, or install a torch build and a driver that fit your GPU"
        )
    return device


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for what is under way there."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def finish(device: torch.device) -> None:
    """Wait until all that was begun on a device is done: call it before a clock is read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
