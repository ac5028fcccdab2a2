"""Random changes to training images, each member's from its own stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from klom_bench.ensemble.device import sent


@dataclass(frozen=True)
class Augmentation:
    """Images are mirrored with probability 1/2, moved by up to `translate` pixels, and a square of
    `cutout` pixels is blanked.

    As the published recipe of CIFAR10_augmented; what moves in and what is cut out is 0.
    """

    flip: bool = False
    translate: int = 0
    cutout: int = 0

    def __bool__(self) -> bool:
        return bool(self.flip or self.translate or self.cutout)

    def drawn(
        self,
        generators: Sequence[torch.Generator],
        points: int,
        height: int,
        width: int,
    ) -> Tensor:
        """What is drawn for one batch: int64 [draws, M * points], on the CPU."""
        side = 2 * self.translate + 1
        below = [2] * self.flip + [side, side] * bool(self.translate)
        if self.cutout:
            below += [height - self.cutout + 1, width - self.cutout + 1]
        return torch.stack(
            [
                torch.cat([torch.randint(most, (points,), generator=g) for g in generators])
                for most in below
            ]
        )

    def of_batches(
        self, generators: Sequence[torch.Generator], batches: int, points: int, like: Tensor
    ) -> Iterator[Tensor]:
        """What is drawn for so many batches of so many points, sent at once to the device of images
        like these [..., H, W]."""
        every = [self.drawn(generators, points, *like.shape[-2:]) for _ in range(batches)]
        return iter(sent(torch.stack(every), like.device))

    def changed(self, x: Tensor, drawn: Tensor) -> Tensor:
        """Images x [M, B, C, H, W], normalised, so that 0 is the mean colour, as drawn."""
        draws = iter(drawn)
        channels, height, width = x.shape[2:]
        images: Tensor = x.flatten(0, 1)
        if self.flip:
            mirrored = next(draws).bool().view(-1, 1, 1, 1)
            images = torch.where(mirrored, images.flip(-1), images)
        rows = torch.arange(height, device=x.device)
        columns = torch.arange(width, device=x.device)
        if self.translate:
            padded = F.pad(images, [self.translate] * 4)
            down, right = next(draws)[:, None] + rows, next(draws)[:, None] + columns
            images = padded[
                torch.arange(len(images), device=x.device)[:, None, None, None],
                torch.arange(channels, device=x.device)[:, None, None],
                down[:, None, :, None],
                right[:, None, None, :],
            ]
        if self.cutout:
            top, left = next(draws)[:, None], next(draws)[:, None]
            below = (rows >= top) & (rows < top + self.cutout)
            beside = (columns >= left) & (columns < left + self.cutout)
            images = images.masked_fill((below[:, :, None] & beside[:, None, :])[:, None], 0.0)
        return images.view(x.shape)
