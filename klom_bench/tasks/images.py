"""Images: where data sets lie, and how models see them."""

import os
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Prepare
from klom_bench.folders import cache_folder, expanded


def data_folder() -> Path:
    """The folder of downloaded data sets: $KLOM_DATA, else `data` in the user's cache folder."""
    given = os.environ.get("KLOM_DATA")
    if given:
        return expanded(given, "$KLOM_DATA")
    return cache_folder("name a folder for data sets with $KLOM_DATA") / "data"


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Prepare:
    """uint8 [..., C, H, W] -> float32 (x / 255 - mean) / std, a colour at a time."""

    @cache  # a constant that is sent anew is waited for
    def by_colour(device: torch.device) -> tuple[Tensor, Tensor]:
        m, s = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (mean, std))
        return m, s

    def prepare(x: Tensor) -> Tensor:
        m, s = by_colour(x.device)
        return x.to(torch.float32).div_(255).sub_(m).div_(s)

    return prepare
