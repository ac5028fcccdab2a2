"""Scores against what the methods cost."""

import math

from matplotlib.axes import Axes

from klom_bench.report.figures.axes import Name, lines_at, name_all, percent, scaled
from klom_bench.report.figures.canvas import (
    FAINT,
    INK,
    MARKERS,
    SCREEN,
    UNLEARNED,
    Drawn,
    blank,
    panels,
    style,
)
from klom_bench.report.figures.views import EXCESS, LIMITS, Spot, View, levels

PANELS = ("forget", "val")
MOST_NAMES, MOST_VECTORS = 60, 200
"""Beyond so many markers there are no names, and markers are dots of a picture."""


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
            values = [view.oracles[split], view.limits[split], *(bar.value for bar in bars)]
            scaled(axes, "y", values, zero=view.score == EXCESS)
            scaled(axes, "x", [least, 1.0, *positive], form=percent)
            levels(axes, view, split)
            axes.axvline(1.0, color=FAINT, lw=0.8, ls=":", zorder=1)
            tips |= _markers(axes, view, split, known, least)
            left_out |= _names(axes, view, split, known, least)
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


def _markers(
    axes: Axes, view: View, split: str, spots: list[Spot], least: float
) -> dict[str, list[str]]:
    """A collection a method; what each marker is."""
    many = len(spots) > MOST_VECTORS
    tips: dict[str, list[str]] = {}
    for i, method in enumerate(dict.fromkeys(spot.method for spot in spots)):
        of = [spot for spot in spots if spot.method == method]
        x, y = [max(s.cost, least) for s in of], [s.bars[split].value for s in of]
        gid = f"{split}-{i}"
        axes.scatter(
            x,
            y,
            s=28 / (1 + many),
            color=UNLEARNED,
            marker=MARKERS[i % len(MARKERS)],
            edgecolors=INK,
            linewidths=0.5 - 0.3 * many,
            zorder=3,
            gid=gid,
            rasterized=many,
        )
        tips[gid] = [
            f"{s.name}: {view.score} {s.bars[split].value:.2f} {split}, "
            f"{percent(s.cost)} of a retraining"
            for s in of
        ]
        if not many:
            ends = [s.bars[split].low for s in of], [s.bars[split].high for s in of]
            axes.vlines(x, *ends, color=INK, lw=0.5, alpha=0.7, zorder=2)
    return tips


def _names(axes: Axes, view: View, split: str, spots: list[Spot], least: float) -> set[str]:
    if len(spots) > MOST_NAMES:
        return set()
    nearest = sorted(spots, key=lambda spot: spot.bars[split].value)
    names = [Name(s.name, max(s.cost, least), s.bars[split].value) for s in nearest]
    heights = [y for y in (view.nothing[split].value, view.oracles[split]) if math.isfinite(y)]
    lines = lines_at(axes, heights, [1.0])
    return {*name_all(axes, [name for name in names if math.isfinite(name.y)], lines)}


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
    return " ".join(part for part in [*said, view.left_out, view.about] if part)
