"""Axes of scores and costs: their scales, their ticks, and the names of what stands in them."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
from matplotlib.transforms import Bbox, BboxBase

from klom_bench.report.figures.canvas import FAINT, SMALL

Side = Literal["x", "y"]
NEAR_ZERO = 0.1
"""Below it an axis that holds 0 is linear, above it logarithmic."""
WIDE = 6.0
"""An axis is logarithmic where the largest of its numbers is so many times the smallest."""
STEPS = (1, 2, 5)
DPI = 100
"""At which texts are measured: as figures are while they are made."""


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
    steps = STEPS if last - first <= 2 else (1,)
    ticks = [step * of for of in decades for step in steps]
    spare = (high / low) ** 0.06
    return (low / spare, high * spare), ticks, {"value": "log"}


def _linear(high: float) -> Scale:
    steps = (step * 10.0**k for k in range(-3, 4) for step in STEPS)
    step = next(step for step in steps if high / step < 6)
    return (0, 1.1 * high), [step * k for k in range(8)], {"value": "linear"}


def percent(share: float) -> str:
    """`0.5 %`."""
    return f"{100 * share:.3g} %"


def inches(text: str) -> float:
    """How wide a small text is."""
    return float(_size(text)[0])


@lru_cache(maxsize=4096)
def _size(text: str) -> tuple[float, float, float]:
    """Width, height and depth below the line of a small text, in inches."""
    pen = RendererAgg(1, 1, DPI)
    of = pen.get_text_width_height_descent(text, FontProperties(size=SMALL), ismath=False)
    return tuple(part / DPI for part in of)


def cut(text: str, room: float) -> str:
    """What of a small text is not wider than so many inches."""
    if inches(text) <= room:
        return text
    kept = bisect_right(range(len(text)), room, key=lambda n: inches(text[:n] + "…")) - 1
    return text[: max(kept, 0)] + "…"


@dataclass(frozen=True)
class Name:
    """A text that is to stand beside a place, in data coordinates.

    far: or somewhat away from it, with a line between.
    """

    text: str
    x: float
    y: float
    far: bool = True


AWAY = (5.0, 14.0, 24.0)
"""Points from a place to its name; from the second on with a line between."""
AROUND = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))


def name_all(axes: Axes, names: Sequence[Name], lines: Sequence[Bbox] = ()) -> list[str]:
    """Write names beside their places, the first first, where none lies on another or on a place,
    and if it can be on none of `lines`.

    Returns:
        Those for which there is no room.
    """
    dpi = axes.figure.dpi
    point, inside = dpi / 72, axes.bbox
    places = [tuple(axes.transData.transform((of.x, of.y))) for of in names]
    taken = [Bbox.from_extents(x, y, x, y).padded(3.5 * point) for x, y in places]
    left_out = []
    for of, (x, y) in zip(names, places, strict=True):
        wide, high, below = (dpi * size for size in _size(of.text))
        ways = product((lines, ()), AWAY if of.far else AWAY[:1], AROUND)
        for crossed, away, (across, up) in ways:
            gap = away * point * (1.0 if 0 in (across, up) else 0.7)
            left = x + across * gap - wide * (1 - across) / 2
            foot = y + up * gap - high * (1 - up) / 2
            box = Bbox.from_bounds(left, foot, wide, high)
            if not box.count_overlaps([*taken, *crossed]) and _holds(inside, box):
                taken.append(box)
                start = ((left - x) / point, (foot + below - y) / point)
                anchor = ((1 - across) / 2, (1 - up) / 2)
                arrow = {**LEADER, "relpos": anchor} if away > AWAY[0] else None
                _write(axes, of, start, arrow)
                break
        else:
            left_out.append(of.text)
    return left_out


def lines_at(axes: Axes, across: Sequence[float] = (), up: Sequence[float] = ()) -> list[Bbox]:
    """Where straight lines lie, in pixels: `across` at these heights, `up` at these x."""
    box = axes.bbox
    heights = [axes.transData.transform((axes.get_xlim()[0], y))[1] for y in across]
    xs = [axes.transData.transform((x, axes.get_ylim()[0]))[0] for x in up]
    return [
        *(Bbox.from_extents(box.x0, y - 1, box.x1, y + 1) for y in heights),
        *(Bbox.from_extents(x - 1, box.y0, x + 1, box.y1) for x in xs),
    ]


LEADER = {"arrowstyle": "-", "lw": 0.4, "color": FAINT, "shrinkA": 0, "shrinkB": 2}


def _write(
    axes: Axes, name: Name, start: tuple[float, float], arrow: dict[str, Any] | None
) -> None:
    axes.annotate(
        name.text,
        (name.x, name.y),
        start,
        textcoords="offset points",
        fontsize=SMALL,
        va="baseline",
        arrowprops=arrow,
        annotation_clip=False,
    )


def _holds(outer: BboxBase, box: Bbox) -> bool:
    return bool(
        outer.x0 <= box.x0 and box.x1 <= outer.x1 and outer.y0 <= box.y0 and box.y1 <= outer.y1
    )


def stacked_names(axes: Axes, ends: Sequence[Name], keys: Sequence[Mapping[str, Any]]) -> None:
    """Names right of the axes, each as near as may be to where its line ends, with its marker."""
    box = axes.get_window_extent()
    step = 1.3 * SMALL * axes.figure.dpi / 72
    wanted = [axes.transData.transform((of.x, of.y))[1] for of in ends]
    order = sorted(range(len(ends)), key=lambda i: wanted[i])
    heights = [wanted[i] for i in order]
    for k in range(1, len(heights)):
        heights[k] = max(heights[k], heights[k - 1] + step)
    heights[-1] = min(heights[-1], box.y1)
    for k in reversed(range(len(heights) - 1)):
        heights[k] = min(heights[k], heights[k + 1] - step)
    for i, height in zip(order, heights, strict=True):
        place = (1.0, (height - box.y0) / box.height)
        key = {"ls": "", "ms": 4, "clip_on": False, "transform": axes.transAxes, **keys[i]}
        axes.plot(place[0] + 6 / box.width, place[1], **key)
        axes.annotate(
            ends[i].text,
            place,
            (9, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=SMALL,
            va="center",
        )
