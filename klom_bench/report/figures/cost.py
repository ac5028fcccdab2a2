"""Scores against what the methods cost."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from klom_bench.report.figures.axes import percent, scaled
from klom_bench.report.figures.canvas import (
    FAINT,
    SCREEN,
    UNLEARNED,
    Drawn,
    blank,
    panels,
    sentences,
    style,
)
from klom_bench.report.figures.marks import Mark, Segment, bars_of, draw_marks, shapes_of
from klom_bench.report.figures.naming import MOST_NAMES, Name, lines_at, name_all
from klom_bench.report.figures.views import EXCESS, LIMITS, Bar, Spot, View, levels

PANELS = ("forget", "val")
INF = math.inf


def cost(view: View, width: float = SCREEN) -> Drawn | None:
    """Forget and val against the share of a retraining; None where no cost is known."""
    known = [spot for spot in view.last if not math.isnan(spot.cost)]
    positive = [spot.cost for spot in known if spot.cost > 0]
    if not positive:
        return None
    least = min(*positive, 1.0) / 2  # where what costs nothing stands
    with style():
        figure = blank(width, 0.9 * width)
        both = panels(figure, 2)
        left_out: set[str] = set()
        tips: dict[str, list[str]] = {}
        for axes, split in zip(both, PANELS, strict=True):
            bars = [view.nothing[split], *(spot.bars[split] for spot in known)]
            ends = (end for bar in bars for end in (bar.value, bar.high))
            values = [view.oracles[split], view.limits[split], *ends]
            scaled(axes, "y", values, zero=view.score == EXCESS)
            scaled(axes, "x", [least, 1.0, *positive], form=percent)
            levels(axes, view, split)
            axes.axvline(1.0, color=FAINT, lw=0.8, ls=":", zorder=1)
            marks = [_mark(spot, view, split, least) for spot in known]
            tips |= draw_marks(axes, marks, shapes_of(known), split)
            left_out |= _names(axes, view, split, marks, known)
            axes.set_ylabel(f"{view.score}, {split}")
        both[0].tick_params(labelbottom=False)
        both[1].set_xlabel("cost: train points seen, over those of a retraining")
    return Drawn(
        name=f"cost-{view.forget_set}-{view.score}",
        title=f"{view.score} against cost, {view.forget_set}",
        caption=_caption(view, known, left_out),
        figure=figure,
        choice=view.choice,
        tips=tips,
    )


def _mark(spot: Spot, view: View, split: str, least: float) -> Mark:
    y = spot.bars[split]
    tip = f"{spot.name}: {view.score} {y.value:.2f} {split}, {percent(spot.cost)} of a retraining"
    return Mark(Bar(max(spot.cost, least)), y, spot.method, UNLEARNED, tip)


def _names(axes: Axes, view: View, split: str, marks: Sequence[Mark], of: list[Spot]) -> set[str]:
    if len(of) > MOST_NAMES:
        return set()
    names = [Name(s.name, m.x.value, m.y.value) for s, m in zip(of, marks, strict=True)]
    told = sorted((name for name in names if math.isfinite(name.y)), key=lambda name: name.y)
    levels = [y for y in (view.nothing[split].value, view.oracles[split]) if math.isfinite(y)]
    lines: list[Segment] = [((0, y), (INF, y)) for y in levels]
    lines += [((1.0, -INF), (1.0, INF)), *bars_of(marks)]
    return {*name_all(axes, told, lines_at(axes, lines))}


def _caption(view: View, known: list[Spot], left_out: set[str]) -> str:
    said = [
        f"{view.score} on forget and val points against the cost, the train points that a model "
        "saw over those of a retraining (dotted at 100 %).",
        f"The line is what retrained models have on average, its band ends at "
        f"{LIMITS[view.score]}; dashed are the originals as they are. {view.bars}",
    ]
    if any(spot.cost <= 0 for spot in known):
        said.append("What costs nothing stands at the left end.")
    if unknown := len(view.last) - len(known):
        said.append(f"Of {unknown} the cost is not known: they are not drawn.")
    if left_out:
        said.append(f"{len(left_out)} have no room for a name.")
    return sentences(*said, view.left_out, view.about)
