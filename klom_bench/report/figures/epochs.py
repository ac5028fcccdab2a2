"""Scores after each epoch of one run."""

import math
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from klom_bench.report.figures.axes import scaled
from klom_bench.report.figures.canvas import (
    COLOURS,
    MARKERS,
    SCREEN,
    Drawn,
    blank,
    panels,
    sentences,
    style,
)
from klom_bench.report.figures.naming import Name, cut, inches, stacked_names
from klom_bench.report.figures.views import EXCESS, LIMITS, Spot, View, levels

PANELS = ("forget", "val")
MOST_LINES = 8
"""More cannot be told apart."""
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)))


def epochs(view: View, width: float = SCREEN) -> Drawn | None:
    """Forget and val against the epoch, a line a method and setting; None where nothing has more
    than one."""
    several = [spot for spot in view.spots if spot.epoch is not None]
    runs = [[*of] for _, of in groupby(several, lambda spot: spot.name)]
    runs.sort(key=lambda run: _order(run[-1]))
    if not runs:
        return None
    drawn = runs[:MOST_LINES]
    with style():
        figure = blank(width, 0.9 * width)
        room = min(0.05 + max(inches(run[0].name) for run in drawn), 0.35 * width)
        both = panels(figure, 2, right=room + 0.15)
        for axes, split in zip(both, PANELS, strict=True):
            bars = [view.nothing[split], *(s.bars[split] for run in drawn for s in run)]
            ends = (end for bar in bars for end in (bar.value, bar.high))
            values = [view.oracles[split], view.limits[split], *ends]
            scaled(axes, "y", values, zero=view.score == EXCESS)
            levels(axes, view, split)
            for i, run in enumerate(drawn):
                _line(axes, run, split, i)
            named = [(_key(i), run[-1], run[-1].bars[split].value) for i, run in enumerate(drawn)]
            told = [
                (key, Name(cut(s.name, room), s.epoch or 0, y))
                for key, s, y in named
                if math.isfinite(y)
            ]
            stacked_names(axes, [name for _, name in told], [key for key, _ in told])
            axes.set_ylabel(f"{view.score}, {split}")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        both[0].tick_params(labelbottom=False)
        both[1].set_xlabel("epoch")
    return Drawn(
        name=f"epochs-{view.forget_set}-{view.score}",
        title=f"{view.score} against epoch, {view.forget_set}",
        caption=_caption(view, len(drawn), len(runs)),
        figure=figure,
        choice=view.choice,
    )


def _order(spot: Spot) -> float:
    """The best on the forget set first, nan last."""
    value = spot.bars["forget"].value
    return math.inf if math.isnan(value) else value


def _line(axes: Axes, run: list[Spot], split: str, i: int) -> None:
    at = [spot.epoch or 0 for spot in run]
    bars = [spot.bars[split] for spot in run]
    dashes = DASHES[i // len(COLOURS) % len(DASHES)]
    values = [bar.value for bar in bars]
    axes.plot(at, values, ls=dashes, ms=4, gid=f"{split}-{i}", zorder=3, **_key(i))
    ends = [bar.low for bar in bars], [bar.high for bar in bars]
    axes.fill_between(at, *ends, color=_key(i)["color"], alpha=0.18, lw=0, zorder=2)


def _key(i: int) -> dict[str, Any]:
    """What tells a line from others."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def _caption(view: View, drawn: int, runs: int) -> str:
    said = [
        f"{view.score} on forget and val points after each epoch, a line a method and setting. "
        "Their bands are 95 % intervals over models.",
        f"The straight line is what retrained models have on average, its grey band ends at "
        f"{LIMITS[view.score]}; dashed are the originals as they are.",
    ]
    if drawn < runs:
        said.append(
            f"The {drawn} of {runs} that are best on the forget set at their end are drawn."
        )
    return sentences(*said, view.about)
