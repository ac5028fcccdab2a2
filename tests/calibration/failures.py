"""Unlearned models that are wrong in known ways, made from real models."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

GUESS = math.log(1 / 9)
"""The margin of a model that takes ten classes for equally likely."""


@dataclass(frozen=True)
class Models:
    """Margins [n, points]: oracles to score against, retrained models beside them, originals; sd
    [points] of oracles; which points are to be forgotten, the most affected first, and which not."""

    oracles: np.ndarray
    retrained: np.ndarray
    originals: np.ndarray
    sd: np.ndarray
    forget: np.ndarray
    rest: np.ndarray


Failure = Callable[[np.random.Generator, Models], np.ndarray]


def untouched(rng: np.random.Generator, models: Models, part: float) -> np.ndarray:
    """A part of the members are the originals still."""
    count = round(part * len(models.retrained))
    return np.concatenate([models.originals[:count], models.retrained[count:]])


def ruined(rng: np.random.Generator, models: Models, part: float) -> np.ndarray:
    """A part of the members guess."""
    made = models.retrained.copy()
    count = round(part * len(made))
    made[:count] = GUESS + rng.standard_normal((count, made.shape[1]))
    return made


def noisy(rng: np.random.Generator, models: Models, sd: float) -> np.ndarray:
    """Noise on every output."""
    return models.retrained + sd * models.sd * rng.standard_normal(models.retrained.shape)


def noisy_originals(rng: np.random.Generator, models: Models, sd: float) -> np.ndarray:
    """The originals with noise on every output."""
    return models.originals + sd * models.sd * rng.standard_normal(models.originals.shape)


def moved(rng: np.random.Generator, models: Models, sd: float) -> np.ndarray:
    """Every margin is larger."""
    return models.retrained + sd * models.sd


def rest_moved(rng: np.random.Generator, models: Models, sd: float) -> np.ndarray:
    """Every margin of points that were not to be forgotten is larger."""
    made = models.retrained.copy()
    made[:, models.rest] += sd * models.sd[models.rest]
    return made


def shuffled(rng: np.random.Generator, models: Models) -> np.ndarray:
    """Margins change places between members, point by point."""
    return rng.permuted(models.retrained, axis=0)


def in_order(rng: np.random.Generator, models: Models) -> np.ndarray:
    """The member that is lowest at one point is so at all."""
    return np.sort(models.retrained, axis=0)


def copies(rng: np.random.Generator, models: Models, part: float) -> np.ndarray:
    """A part of the members are the oracles scored against."""
    count = round(part * len(models.oracles))
    return np.concatenate([models.oracles[:count], models.retrained[count:]])


def narrow(rng: np.random.Generator, models: Models) -> np.ndarray:
    """Right means, half the spread."""
    mean = models.retrained.mean(0)
    return mean + (models.retrained - mean) / 2


def remembered(rng: np.random.Generator, models: Models, count: int) -> np.ndarray:
    """The most affected points are as the originals know them."""
    made = models.retrained.copy()
    points = models.forget[:count]
    made[:, points] = models.originals[:, points]
    return made


FAILURES: dict[str, Failure] = {
    "retrain": lambda rng, models: models.retrained,
    "do nothing": lambda rng, models: models.originals,
    **{f"{p} % of members untouched": partial(untouched, part=p / 100) for p in (10, 20, 40, 60)},
    **{f"{p} % of members ruined": partial(ruined, part=p / 100) for p in (5, 10, 20)},
    **{f"retrain, noise of {sd:g} sd on outputs": partial(noisy, sd=sd) for sd in (0.5, 1, 2)},
    **{f"do nothing, noise of {sd:g} sd": partial(noisy_originals, sd=sd) for sd in (1, 2)},
    **{f"all margins {sd:g} sd larger": partial(moved, sd=sd) for sd in (0.1, 0.25, 0.5)},
    "rest 1 sd larger": partial(rest_moved, sd=1),
    "margins shuffled between members": shuffled,
    "all points in one order": in_order,
    "half of the members copied from the oracles": partial(copies, part=0.5),
    "copies of the oracles": partial(copies, part=1),
    "right means, half the spread": narrow,
    **{f"{k} of 50 points remembered": partial(remembered, count=k) for k in (1, 2, 3)},
}
