"""Models that are there twice, told from their margins."""

from collections import Counter

import numpy as np


def copies(oracle: np.ndarray, unlearned: np.ndarray) -> list[int]:
    """Rows of unlearned margins [M, points] that are one oracle's [N, points], to the last bit.

    Oracles that are alike themselves, because nothing is drawn in their training, are no evidence.
    """
    times = Counter(row.tobytes() for row in oracle)
    return [i for i, row in enumerate(unlearned) if times[row.tobytes()] == 1]


def repeated(margins: np.ndarray) -> tuple[int, int] | None:
    """Two rows of margins [members, points] that are the same; None where all differ."""
    first: dict[bytes, int] = {}
    for row, values in enumerate(margins):
        if (before := first.setdefault(values.tobytes(), row)) != row:
            return before, row
    return None
