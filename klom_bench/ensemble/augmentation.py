"""Random changes to training images, each member's from its own stream."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def augmented(
    x: Tensor, generators: Sequence[torch.Generator], flip: bool, translate: int, cutout: int
) -> Tensor:
    """Images x [M, B, C, H, W], normalised, so that 0 is the mean colour: mirrored with
    probability 1/2, moved by up to `translate` pixels, a square of `cutout` pixels blanked.

    As the published recipe of CIFAR10_augmented; what moves in and what is cut out is 0.
    """
    if not (flip or translate or cutout):
        return x
    count, channels, height, width = x.shape[1:]

    def draw(below: int) -> Tensor:
        """[M * B] integers."""
        rows = [torch.randint(below, (count,), generator=g) for g in generators]
        return torch.cat(rows).to(x.device)

    images: Tensor = x.flatten(0, 1)
    if flip:
        mirrored = draw(2).bool().view(-1, 1, 1, 1)
        images = torch.where(mirrored, images.flip(-1), images)
    rows = torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device)
    if translate:
        padded = F.pad(images, [translate] * 4)
        down = draw(2 * translate + 1)[:, None] + rows
        right = draw(2 * translate + 1)[:, None] + columns
        images = padded[
            torch.arange(len(images), device=x.device)[:, None, None, None],
            torch.arange(channels, device=x.device)[:, None, None],
            down[:, None, :, None],
            right[:, None, None, :],
        ]
    if cutout:
        top, left = draw(height - cutout + 1), draw(width - cutout + 1)
        below = (rows >= top[:, None]) & (rows < top[:, None] + cutout)
        beside = (columns >= left[:, None]) & (columns < left[:, None] + cutout)
        images = images.masked_fill((below[:, :, None] & beside[:, None, :])[:, None], 0.0)
    return images.view(x.shape)
