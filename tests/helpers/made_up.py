"""Margins that were made up: models that agree on which points are easy, and forgot some or not."""

import numpy as np

TRAIN, VAL, FORGET = 200, 60, list(range(0, 60, 3))


def models(count, seed, remember=0.0, points=TRAIN + VAL):
    """[count, points] margins; `remember` is added at the forget points."""
    easy = np.random.default_rng(99).normal(3, 2, TRAIN + VAL)[:points]
    found = easy + np.random.default_rng(seed).normal(size=(count, points))
    found[:, FORGET] += remember
    return found


CODE = """
import numpy as np, pytest
from helpers.made_up import FORGET, TRAIN, models

USUAL = {"forget": FORGET, "train_points": TRAIN}
"""
