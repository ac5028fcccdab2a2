"""Members that diverged: as oracles they would stretch the bins until nothing shows."""

import numpy as np

WIDE = 4.0
"""Margins this many times as large as the median member's mean divergence; 1.1 is usual."""
FAR = 0.1
"""So does being right on so much fewer points than the median member, of MANY points or more."""
MANY = 200


def far_members(margins: np.ndarray) -> list[int]:
    """Rows of margins [members, points] that are far from the others (measured bounds)."""
    size = np.abs(margins).mean(1, dtype=np.float64)
    right = (margins > 0).mean(1)
    far = size > WIDE * np.median(size)
    if margins.shape[1] >= MANY:
        far |= right < np.median(right) - FAR
    return [int(row) for row in np.flatnonzero(far)]
