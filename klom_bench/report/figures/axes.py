"""Axes of scores and costs: their scales and ticks."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

Side = Literal["x", "y"]
NEAR_ZERO = 0.1
"""Below it an axis that holds 0 is linear, above it logarithmic."""
WIDE = 6.0
"""An axis is logarithmic where the largest of its numbers is so many times the smallest."""
STEPS = (1, 2, 5)


def scaled(
    axes: Axes,
    side: Side,
    values: Iterable[float],
    *,
    zero: bool = False,
    form: Callable[[float], str] = "{:g}".format,
) -> str:
    """Give an axis the scale and ticks for these values, and say which: nan is left out.

    zero: 0 and what is below must stand on it, if anything does.
    """
    known = [value for value in values if math.isfinite(value)] or [1.0]
    low, high = min(known), max(known)
    if zero or low <= 0:
        ends, ticks, scale = _around_zero(min(low, 0.0), high)
    elif high > WIDE * low:
        ends, ticks, scale = _logarithmic(low, high)
    else:
        ends, ticks, scale = _linear(high)
    axis = axes.xaxis if side == "x" else axes.yaxis
    (axes.set_xscale if side == "x" else axes.set_yscale)(**scale)
    (axes.set_xlim if side == "x" else axes.set_ylim)(*ends)
    inside = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
    axis.set_major_locator(FixedLocator(inside))
    axis.set_major_formatter(FixedFormatter([form(tick) for tick in inside]))
    axis.set_minor_locator(NullLocator())
    return SAID[str(scale["value"])]


SAID = {
    "linear": "linear",
    "log": "logarithmic",
    "symlog": f"linear up to {NEAR_ZERO:g}, logarithmic above",
}
Scale = tuple[tuple[float, float], list[float], dict[str, Any]]
"""The ends of an axis, its ticks, and what matplotlib calls it."""


def _around_zero(low: float, high: float) -> Scale:
    decades = [10.0**k for k in range(-1, math.ceil(math.log10(max(high, 0.2))) + 1)]
    ticks = [-NEAR_ZERO, 0.0, *(step * of for of in decades for step in STEPS)]
    end = max(high, 2 * NEAR_ZERO)
    start = min(1.3 * low, -0.3 * NEAR_ZERO)
    symlog = {"value": "symlog", "linthresh": NEAR_ZERO, "linscale": 0.6}
    return (start, 1.6 * end), ticks, symlog


def _logarithmic(low: float, high: float) -> Scale:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**k for k in range(first, last + 1)]
    steps = (1, 2, 3, 5, 7) if high < 12 * low else STEPS if last - first <= 2 else (1,)
    ticks = [step * of for of in decades for step in steps]
    spare = (high / low) ** 0.06
    return (low / spare, high * spare), ticks, {"value": "log"}


def _linear(high: float) -> Scale:
    return (0, 1.1 * high), linear_ticks(1.1 * high), {"value": "linear"}


def linear_ticks(high: float) -> list[float]:
    """Round numbers from 0 on, some six."""
    steps = (step * 10.0**k for k in range(-9, 9) for step in STEPS)
    step = next((step for step in steps if high / step < 6), 1.0)
    return [step * k for k in range(7) if step * k <= high]


def percent(share: float) -> str:
    """`0.5 %`."""
    return f"{100 * share:.3g} %"
