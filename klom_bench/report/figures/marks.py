"""Markers of methods, and bars through them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from klom_bench.report.figures.canvas import INK, MARKERS
from klom_bench.report.figures.views import Bar, Spot

MOST_BARS, MOST_VECTORS = 60, 200
"""Beyond so many markers there are no bars, and markers are small dots of a picture."""
Colour = tuple[float, ...] | str


@dataclass(frozen=True)
class Mark:
    """A marker. bars: through it are drawn its intervals. tip: what it is."""

    x: Bar
    y: Bar
    method: str
    colour: Colour
    tip: str
    small: bool = False


def shapes_of(spots: Sequence[Spot]) -> dict[str, str]:
    """A marker a method; the same again where methods are many."""
    methods = dict.fromkeys(spot.method for spot in spots)
    return {method: MARKERS[i % len(MARKERS)] for i, method in enumerate(methods)}


def draw_marks(
    axes: Axes, marks: Sequence[Mark], shapes: Mapping[str, str], name: str = "marks"
) -> dict[str, list[str]]:
    """A collection a shape, and one of all bars; what the markers of each collection are."""
    many, tips = len(marks) > MOST_VECTORS, {}
    for i, shape in enumerate(dict.fromkeys(shapes.values())):
        of = [mark for mark in marks if shapes[mark.method] == shape and _is_there(mark)]
        if not of:
            continue
        gid = f"{name}-{i}"
        axes.scatter(
            [mark.x.value for mark in of],
            [mark.y.value for mark in of],
            s=[(13 if mark.small else 28) / (1 + many) for mark in of],
            c=[mark.colour for mark in of],
            marker=shape,
            edgecolors=INK,
            linewidths=0.2 if many else 0.5,
            zorder=3,
            gid=gid,
            rasterized=many,
        )
        tips[gid] = [mark.tip for mark in of]
    if len(marks) <= MOST_BARS:
        thin: dict[str, Any] = {"colors": INK, "linewidths": 0.5, "alpha": 0.7, "zorder": 2}
        bars = LineCollection(bars_of(marks), gid=f"{name}-bars", **thin)
        axes.add_collection(bars, autolim=False)
    return tips


def _is_there(mark: Mark) -> bool:
    return math.isfinite(mark.x.value + mark.y.value)


Segment = tuple[tuple[float, float], tuple[float, float]]


def bars_of(marks: Sequence[Mark]) -> list[Segment]:
    """Their intervals, of large markers: across and up where there are any."""
    every = [
        segment
        for mark in marks
        if not mark.small
        for x, y in [(mark.x, mark.y)]
        for segment in (
            ((x.low, y.value), (x.high, y.value)),
            ((x.value, y.low), (x.value, y.high)),
        )
    ]
    return [(a, b) for a, b in every if math.isfinite(sum(a) + sum(b))]
