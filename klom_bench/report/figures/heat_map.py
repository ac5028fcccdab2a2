"""Methods by forget sets, a colour a score."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from klom_bench.cell.record_json import OfTest
from klom_bench.errors import visible
from klom_bench.report.figures.canvas import (
    FAINT,
    INK,
    SCREEN,
    SMALL,
    Drawn,
    blank,
    panels,
    sentences,
    style,
)
from klom_bench.report.figures.naming import cut, inches
from klom_bench.report.figures.views import EXCESS, View

RAMP = "viridis_r"
"""Light is good; it reads in grey, and looks the same to the colour-blind."""
LEAST = 0.02
"""Excess below it has one colour: it may be 0 or less."""
WIDEST = 0.9
"""Inches of a cell."""
BEST, WORST = 45, 15
"""Of more methods so many are drawn, by their mean."""
ORACLES, NOTHING = "oracles", "do nothing"


@dataclass(frozen=True)
class Row:
    """A line of the map: by forget set a value, or a word why there is none."""

    name: str
    cells: Mapping[str, float | str]

    @property
    def known(self) -> list[float]:
        """Its values."""
        return [value for value in self.cells.values() if isinstance(value, float)]

    @property
    def mean(self) -> float:
        """Of what there is; inf of nothing."""
        return fmean(self.known) if self.known else math.inf


def heat_map(
    views: Sequence[View], missing: Iterable[tuple[str, OfTest, str]], width: float = SCREEN
) -> Drawn:
    """The forget score of all methods on all sets.

    missing: the name of a row, its test, and in a word why it has no score.
    """
    score = views[0].score
    rows = _rows(views, missing)
    drawn = rows if len(rows) <= BEST + WORST else [*rows[:BEST], *rows[-WORST:]]
    last = [_idle(views, NOTHING), _idle(views, ORACLES)]
    lines = [*drawn, *(row for row in last if math.isfinite(row.mean))]
    sets = [view.forget_set for view in views]
    with style():
        left = min(0.15 + max(inches(row.name) for row in lines), 0.45 * width)
        heads = [name.replace("forget_set_", "set ") for name in sets]
        widest = max(map(inches, heads))
        steep = widest + 0.05 > (width - left - 0.15) / len(sets)
        top = min(0.2 + 0.7 * widest, 1.2) if steep else 0.25
        figure = blank(width, 0.17 * len(lines) + top + 0.1)
        right = max(0.15 + 0.3 * steep, width - left - WIDEST * len(sets))
        (axes,) = panels(figure, left=left, bottom=0.1, top=top, right=right)
        _cells(axes, lines, sets, score)
        axes.set_yticks(_middles(lines), [cut(row.name, left - 0.1) for row in lines])
        step = math.ceil(
            0.12 * len(sets) / (width - left)
        )  # where they are many, not all are named
        axes.set_xticks(_middles(sets)[::step], [cut(name, 1.2) for name in heads[::step]])
        axes.axhline(len(drawn), color=INK, lw=0.8)
        _lean(axes, steep)
    return Drawn(
        name=f"map-{score}",
        title=f"{score} on forget points, methods by forget sets",
        caption=_caption(views, score, drawn, rows),
        figure=figure,
        choice={"score": score},
    )


def _rows(views: Sequence[View], missing: Iterable[tuple[str, OfTest, str]]) -> list[Row]:
    """Methods, the best in the mean first, those that lack a score on some set after them."""
    cells: dict[str, dict[str, float | str]] = {}
    for view in views:
        for spot in view.last:
            value = spot.bars["forget"].value
            cells.setdefault(spot.name, {})[view.forget_set] = "" if math.isnan(value) else value
    for name, test, why in missing:
        cells.setdefault(name, {}).setdefault(visible(test["forget_set"]), why)
    rows = [Row(name, of) for name, of in cells.items()]
    return sorted(rows, key=lambda row: (len(row.known) < len(views), row.mean))


def _idle(views: Sequence[View], name: str) -> Row:
    of = {
        view.forget_set: view.nothing["forget"].value if name == NOTHING else view.oracles["forget"]
        for view in views
    }
    return Row(name, {key: value for key, value in of.items() if not math.isnan(value)})


def _cells(axes: Axes, rows: Sequence[Row], sets: Sequence[str], score: str) -> None:
    values = np.full((len(rows), len(sets)), np.nan)
    for i, row in enumerate(rows):
        for j, name in enumerate(sets):
            value = row.cells.get(name)
            values[i, j] = value if isinstance(value, float) else np.nan
    least = LEAST if score == EXCESS else float(np.nanmin(values))
    colours = LogNorm(least, max(float(np.nanmax(values)), 1.01 * least), clip=True)
    ramp = colormaps[RAMP]
    axes.set_xlim(0, len(sets))
    axes.set_ylim(len(rows), 0)
    axes.patch.set(facecolor=FAINT, alpha=0.22)
    shown = np.ma.masked_invalid(np.maximum(values, least))
    axes.pcolormesh(
        shown, cmap=ramp, norm=colours, edgecolors="none", rasterized=values.size > 1000, gid="map"
    )
    room = axes.bbox.width / len(sets) * 72 / axes.figure.dpi
    for i, row in enumerate(rows):
        for j, name in enumerate(sets):
            value = row.cells.get(name, "n/a")
            text = _number(value) if isinstance(value, float) else value
            if inches(text) * 72 > room - 2:
                continue
            dark = isinstance(value, float) and _luminance(ramp(colours(max(value, least)))) < 0.45
            colour = ("#ffffff" if dark else "#000000") if isinstance(value, float) else INK
            axes.text(
                j + 0.5,
                i + 0.5,
                text,
                ha="center",
                va="center_baseline",
                fontsize=SMALL,
                color=colour,
            )


def _middles(of: Sequence[object]) -> list[float]:
    return [i + 0.5 for i in range(len(of))]


def _lean(axes: Axes, steep: bool) -> None:
    """Forget sets above, their names slanting where they are long."""
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    for label in axes.get_xticklabels() if steep else ():
        label.set(ha="left", rotation=45, rotation_mode="anchor")


def _number(value: float) -> str:
    """Three characters or so."""
    return f"{value:.1f}" if value >= 9.95 else f"{round(value, 2) + 0.0:.2f}"


def _luminance(colour: Sequence[float]) -> float:
    red, green, blue = colour[:3]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _caption(views: Sequence[View], score: str, drawn: Sequence[Row], rows: Sequence[Row]) -> str:
    start = f" from {LEAST:g} on" if score == EXCESS else ""
    said = [
        f"{score} on the forget set, in nats, of methods by forget sets, the best in the mean "
        f"first; light is good. Colours are logarithmic{start}.",
        "The last rows are the originals as they are, and retrained models on average. "
        "Grey is what has no score.",
    ]
    if len(drawn) < len(rows):
        said.append(f"The {BEST} best and the {WORST} worst of {len(rows)} are drawn.")
    return sentences(*said, views[0].about)
