"""Several looks at a growing number of models, and how sure each must be so that all together are.

A value at its limit wanders as models are added: after N of them it lies W(N) / sqrt(N) errors
above, W a Brownian motion. Whoever looks K times and asks each time for z errors is wrong at least
once more often than 1 - Phi(z). Pocock's z is the one that all looks share.

Source: Pocock (1977), by the recursive integration of Armitage, McPherson and Rowe (1969).
"""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

NODES = 64
"""Of the integral between two looks: 1e-9 of the probability, by twice as many."""
FAR = 8.0
"""In standard deviations: nothing is farther below."""


@cache
def sure_at_each(looks: tuple[int, ...], confidence: float) -> float:
    """How sure a verdict must be at each of these numbers of models, to be so after all of them.

    confidence: of all looks together, from .5 to below 1. Both are one-sided: five equal looks at
    .95 ask for .98308, which is z = 2.122.
    """
    from scipy.optimize import brentq  # what looks once need not wait for it
    from scipy.special import ndtr, ndtri

    if len(looks) == 1:
        return confidence
    lowest = float(ndtri(confidence))
    z = brentq(lambda z: wrong_once(z, looks) - (1 - confidence), lowest, lowest + 4, xtol=1e-10)
    return float(ndtr(z))


def wrong_once(z: float, looks: Sequence[int]) -> float:
    """How often a value at its limit lies z errors above it at one of the looks at least."""
    from scipy.special import ndtr

    places, weights = np.polynomial.legendre.leggauss(NODES)
    x, mass = np.zeros(1), np.ones(1)  # W at the last look, where none was above before
    found, before = 0.0, 0.0
    for models in looks:
        time = models / looks[-1]
        end, sd = z * math.sqrt(time), math.sqrt(time - before)
        found += float(mass @ ndtr((x - end) / sd))
        half = (end + FAR * math.sqrt(time)) / 2
        there = end - half + half * places
        steps = np.exp(-(((there[:, None] - x) / sd) ** 2) / 2) / (sd * math.sqrt(2 * math.pi))
        x, mass, before = there, half * weights * (steps @ mass), time
    return found
