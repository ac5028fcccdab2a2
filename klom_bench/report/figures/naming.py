"""Names beside what they name, where there is room."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties

from klom_bench.report.figures.canvas import INK, SMALL

MOST_NAMES = 60
"""Where more could be named, nothing is."""
LONGEST = 0.4
"""Of the axes' width, what a name takes before it is cut."""
DPI = 100
"""At which texts are measured: as figures are while they are made."""


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

    far: or somewhat away from it, with a line between. half: of the marker's width, in points.
    """

    text: str
    x: float
    y: float
    far: bool = True
    half: float = 3.0


Boxes = np.ndarray
"""[n, 4]: left, lower, right and upper ends, in pixels."""
AROUND = np.array([(1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1)])
AWAY = np.array([1.0, 9.0, 17.0, 27.0])
"""Points from a marker to its name; from the second on with a line between."""


def name_all(axes: Axes, names: Sequence[Name], lines: Boxes | None = None) -> list[str]:
    """Write names beside their places, the first first: none on another or on a place, and as few
    as may be on `lines`.

    Returns:
        Those for which there is no room.
    """
    if not names:
        return []
    dpi, places = axes.figure.dpi, axes.transData.transform([(of.x, of.y) for of in names])
    halves = np.array([[of.half] for of in names]) * dpi / 72
    taken = np.concatenate([places - halves, places + halves], axis=1)
    left_out, leaders = [], []
    longest = LONGEST * axes.bbox.width / dpi
    for of, place in zip(names, places, strict=True):
        text = cut(of.text, longest)
        wide, (_, high, below) = dpi * inches(text), (dpi * size for size in _size("Hg"))
        anchors, boxes = _around(place, wide, high, dpi / 72, of.half)
        last = len(boxes) if of.far else len(AROUND)
        doubt = np.arange(len(boxes)) / len(AROUND)  # the nearer the better
        doubt += 0.7 * _overlaps(boxes, lines) if lines is not None else 0
        doubt[_overlaps(boxes, taken) > 0] = np.inf
        doubt[~_within(boxes, np.asarray(axes.bbox.extents))] = np.inf
        best = int(doubt[:last].argmin())
        if np.isinf(doubt[best]):
            left_out.append(of.text)
            continue
        taken = np.vstack([taken, boxes[best]])
        _write(axes, replace(of, text=text), (boxes[best, :2] + (0, below) - place) * 72 / dpi)
        if best >= len(AROUND):
            leaders.append([place, anchors[best]])
    _lead(axes, leaders)
    return left_out


def _around(
    place: np.ndarray, wide: float, high: float, point: float, half: float
) -> tuple[np.ndarray, Boxes]:
    """Where a text may stand, the nearest first: its nearest places [n, 2], and its boxes."""
    nearer = np.where(np.all(AROUND, axis=1, keepdims=True), 0.75, 1.0)
    gaps = (AWAY[:, None, None] * nearer + half) * point
    anchors = (place + gaps * AROUND).reshape(-1, 2)
    size = np.array([wide, high])
    start = anchors + np.tile((AROUND - 1) / 2, (len(AWAY), 1)) * size
    return anchors, np.concatenate([start, start + size], axis=1)


def _overlaps(boxes: Boxes, others: Boxes) -> np.ndarray:
    """Of each box, how many of the others it lies on."""
    a, b = boxes[:, None], others[None]
    apart = (a[..., :2] >= b[..., 2:]) | (a[..., 2:] <= b[..., :2])
    count: np.ndarray = (~apart.any(-1)).sum(-1)
    return count


def _within(boxes: Boxes, outer: np.ndarray) -> np.ndarray:
    low, high = boxes[:, :2] >= outer[:2], boxes[:, 2:] <= outer[2:]
    return np.asarray(np.concatenate([low, high], axis=1).all(1))


def _write(axes: Axes, name: Name, start: np.ndarray) -> None:
    axes.annotate(
        name.text,
        (name.x, name.y),
        tuple(start),
        textcoords="offset points",
        fontsize=SMALL,
        va="baseline",
        annotation_clip=False,
    )


def _lead(axes: Axes, leaders: Sequence[Sequence[np.ndarray]]) -> None:
    """Lines from places to names that stand away from them."""
    if leaders:
        ends = [axes.transData.inverted().transform(leader) for leader in leaders]
        style: dict[str, Any] = {"colors": INK, "linewidths": 0.4, "linestyles": (0, (2, 1))}
        axes.add_collection(LineCollection(ends, zorder=2.5, **style), autolim=False)


def lines_at(
    axes: Axes, segments: Sequence[tuple[tuple[float, float], tuple[float, float]]]
) -> Boxes:
    """Boxes of lines that are upright or level, in data coordinates; inf: as far as axes go."""
    ends = np.array(segments, dtype=float).reshape(-1, 2)
    corners = np.array([axes.get_xlim(), axes.get_ylim()]).T
    pixels = axes.transData.transform(np.clip(ends, *corners)).reshape(-1, 2, 2)
    return np.concatenate([pixels.min(1) - 1, pixels.max(1) + 1], axis=1)


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
