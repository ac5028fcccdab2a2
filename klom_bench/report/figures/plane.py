"""The trade-off plane: what is left on the forget set beside what it cost the rest."""

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes

from klom_bench.report.figures.axes import Side, percent, scaled
from klom_bench.report.figures.canvas import (
    FAINT,
    INK,
    ORACLES,
    SCREEN,
    Drawn,
    blank,
    panels,
    sentences,
    style,
)
from klom_bench.report.figures.marks import (
    MOST_VECTORS,
    Mark,
    Segment,
    bars_of,
    draw_marks,
    shapes_of,
)
from klom_bench.report.figures.naming import MOST_NAMES, Name, lines_at, name_all
from klom_bench.report.figures.ramp import Ramp
from klom_bench.report.figures.views import EXCESS, LIMITS, Spot, View

INF = math.inf


def plane(view: View, split: str, ramp: Ramp, width: float = SCREEN) -> Drawn | None:
    """One forget set: forget across, `split` up, the cost as colour; None without a score."""
    bars = [view.nothing, *(spot.bars for spot in view.spots)]
    if all(math.isnan(of["forget"].value + of[split].value) for of in bars):
        return None
    with style():
        figure = blank(width, 0.62 * width + 0.5)
        (axes,) = panels(figure, right=0.62 if ramp.high else 0.1)
        scale = _scales(axes, view, split)
        _backdrop(axes, view, split)
        _paths(axes, view, split)
        marks = _marks(view, split, ramp)
        tips = draw_marks(axes, marks, shapes_of(view.spots))
        left_out = _names(axes, view, split, bars_of(marks))
        ramp.bar(figure, axes)
        axes.set_xlabel(f"{view.score}, forget")
        axes.set_ylabel(f"{view.score}, {split}")
    return Drawn(
        name=f"plane-{view.forget_set}-{view.score}-{split}",
        title=f"{view.score} on forget and {split} points, {view.forget_set}",
        caption=_caption(view, split, scale, left_out),
        figure=figure,
        choice={**view.choice, "y": split},
        tips=tips,
    )


def _scales(axes: Axes, view: View, split: str) -> str:
    said = []
    sides: tuple[tuple[Side, str], ...] = (("x", "forget"), ("y", split))
    for side, of in sides:
        bars = [view.nothing[of], *(spot.bars[of] for spot in view.spots)]
        ends = (end for bar in bars for end in (bar.value, bar.high))
        values = [view.oracles[of], view.limits[of], *ends]
        said.append(scaled(axes, side, values, zero=view.score == EXCESS))
    return said[0] if said[0] == said[1] else f"{said[0]} across and {said[1]} up"


def _backdrop(axes: Axes, view: View, split: str) -> None:
    """Doing nothing, oracles, and the band below what perfect methods score."""
    x, y = view.oracles["forget"], view.oracles[split]
    start = (axes.get_xlim()[0], axes.get_ylim()[0])
    axes.axvspan(start[0], view.limits["forget"], color=FAINT, alpha=0.22, lw=0, zorder=0)
    axes.axhspan(start[1], view.limits[split], color=FAINT, alpha=0.22, lw=0, zorder=0)
    axes.plot([x], [y], "*", ms=9, color=ORACLES, mec=INK, mew=0.5, zorder=4, gid="oracles")
    idle = view.nothing["forget"].value, view.nothing[split].value
    if not any(map(math.isnan, idle)):
        dashed: dict[str, Any] = {"color": INK, "lw": 0.6, "ls": (0, (4, 3)), "zorder": 1}
        axes.axvline(idle[0], **dashed)
        axes.axhline(idle[1], **dashed)
        axes.plot(
            *[[v] for v in idle], "o", ms=7, mfc="none", mec=INK, mew=1.4, zorder=4, gid="nothing"
        )


def _paths(axes: Axes, view: View, split: str) -> None:
    """Epochs of a run, joined in their order."""
    for _, run in groupby(view.spots, lambda spot: spot.name):
        places = [(s.bars["forget"].value, s.bars[split].value) for s in run]
        if len(places) > 1 and len(view.spots) <= MOST_VECTORS:
            axes.plot(*zip(*places, strict=True), color=FAINT, lw=0.7, zorder=2)


def _marks(view: View, split: str, ramp: Ramp) -> list[Mark]:
    colours = ramp.colours([spot.cost for spot in view.spots])
    return [
        Mark(
            spot.bars["forget"],
            spot.bars[split],
            spot.method,
            colour,
            _tip(spot, view.score, split),
            small=not spot.last,
        )
        for spot, colour in zip(view.spots, colours, strict=True)
    ]


def _tip(spot: Spot, score: str, split: str) -> str:
    x, y = spot.bars["forget"].value, spot.bars[split].value
    cost = "" if math.isnan(spot.cost) else f", {percent(spot.cost)} of a retraining"
    return f"{spot.whole}: {score} {x:.2f} forget, {y:.2f} {split}{cost}"


def _names(axes: Axes, view: View, split: str, bars: Sequence[Segment]) -> list[str]:
    """The nearest to the oracles first, earlier epochs last; those without room."""
    x, y = view.nothing["forget"].value, view.nothing[split].value
    star = view.oracles["forget"], view.oracles[split]
    names = [Name("oracles", *star, half=4.5), Name("do nothing", x, y, half=4.5)]
    if len(view.spots) <= MOST_NAMES:
        places = [(s, s.bars["forget"].value, s.bars[split].value) for s in view.spots]
        places.sort(key=lambda of: (not of[0].last, of[1] + of[2]))
        names += [Name(s.name if s.last else str(s.epoch), x, y, s.last) for s, x, y in places]
    dashed: list[Segment] = [((-INF, y), (INF, y)), ((x, -INF), (x, INF))]
    lines = [*bars, *(dashed if math.isfinite(x + y) else ())]
    return name_all(
        axes, [name for name in names if math.isfinite(name.x + name.y)], lines_at(axes, lines)
    )


def _caption(view: View, split: str, scale: str, left_out: Sequence[str]) -> str:
    said = [
        f"{view.score} on the forget set and on {split} points, a marker a method and setting. "
        "Colour is the cost: train points seen, over those of a retraining (grey: unknown).",
        "The star is what retrained models have on average, circle and dashed lines the originals "
        "as they are.",
        f"Grey bands end at {LIMITS[view.score]}. {view.bars}",
    ]
    if any(not spot.last for spot in view.spots):
        said.append("Small markers are earlier epochs, with their number.")
    said.append(f"Axes are {scale}.")
    if left_out:
        said.append(f"{len(left_out)} markers have no room for a name.")
    return sentences(*said, view.left_out, view.about)
