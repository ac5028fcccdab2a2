"""Where `klom tune` looks for a hyperparameter."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

STEP = 0.15
"""A step from the best trial, as a share of a range's width."""


@dataclass(frozen=True)
class Range:
    """Where `klom tune` looks for a number.

    Args:
        low, high: both ends belong to it.
        log: evenly in the logarithm, else evenly.
        whole: whole numbers only.

    Example:
        >>> from klom_bench import Range
        >>> Range(1e-4, 1.0).at(0.5), str(Range(1, 10, whole=True))
        (0.01, '1..10 whole')
    """

    low: float
    high: float
    log: bool = True
    whole: bool = False

    def at(self, share: float) -> float | int:
        """The value at a share 0 ... 1 of the way; three digits are kept."""
        a, b = (math.log(v) if self.log else v for v in (self.low, self.high))
        value = a + share * (b - a)
        value = math.exp(value) if self.log else value
        return round(value) if self.whole else float(f"{value:.3g}")

    def holds(self, value: Any) -> bool:
        """Whether a value lies inside."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def draw(self, rng: np.random.Generator) -> float | int:
        """A value from anywhere in it."""
        return self.at(rng.random())

    def near(self, value: float, rng: np.random.Generator) -> float | int:
        """A step away from a value."""
        inside = min(max(value, self.low), self.high)
        a, b, v = (math.log(v) if self.log else v for v in (self.low, self.high, inside))
        share = (v - a) / (b - a)
        return self.at(min(max(share + STEP * rng.normal(), 0.0), 1.0))

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' whole' * self.whole}"


@dataclass(frozen=True)
class Choice:
    """A few values among which `klom tune` chooses.

    Args:
        values: at least one.

    Example:
        >>> from klom_bench import Choice
        >>> Choice((32, 64)).holds(64)
        True
    """

    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.values

    def draw(self, rng: np.random.Generator) -> Any:
        """Any of them."""
        return self.values[rng.integers(len(self.values))]

    def near(self, value: Any, rng: np.random.Generator) -> Any:
        """Mostly the same one; it may have been in a file, where tuples are lists."""
        same = [v for v in self.values if json.dumps(v) == json.dumps(value)]
        return same[0] if same and rng.random() < 0.7 else self.draw(rng)

    def __str__(self) -> str:
        return "|".join(map(str, self.values))


Ranges = Mapping[str, Range | Choice]

ADAM = Range(1e-5, 0.1)
SHARE = Range(0.1, 0.9, log=False)
BATCHES = Choice((32, 64, 128, 256))
