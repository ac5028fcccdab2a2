"""The margins of the points that a method gets most wrong."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from klom_bench.cell.record_json import HistogramJson, RecordJson
from klom_bench.errors import visible
from klom_bench.report.figures.canvas import (
    INK,
    ORACLES,
    ORIGINALS,
    SCREEN,
    SMALL,
    UNLEARNED,
    Drawn,
    blank,
    panels,
    style,
)
from klom_bench.report.figures.views import about
from klom_bench.report.table import named

LOOKS: dict[Literal["oracles", "originals", "unlearned"], dict[str, Any]] = {
    "oracles": {"color": ORACLES, "lw": 1.0, "ls": "-"},
    "originals": {"color": ORIGINALS, "lw": 0.9, "ls": (0, (3, 1.5))},
    "unlearned": {"color": UNLEARNED, "lw": 1.0, "ls": "-"},
}
HIGH = 0.7
"""Of the highest bin of a line."""
FILLED = {"oracles": 0.3, "unlearned": 0.35}


def worst(record: RecordJson, width: float = SCREEN) -> Drawn | None:
    """A row a point: histograms over models; None where a record has none."""
    of = record["histograms"]
    if not of:
        return None
    scores = {point["point"]: point["klom"] for point in record["worst"].get("forget", ())}
    with style():
        figure = blank(width, 0.52 * len(of) + 0.6)
        (axes,) = panels(figure, left=0.8, right=0.15, bottom=0.25, top=0.3)
        for row, histogram in enumerate(of):
            _ridge(axes, histogram, -row)
            _ends(axes, histogram["edges"], -row)
        names = [f"point {h['point']}\n{_klom(scores.get(h['point']))}" for h in of]
        axes.set_yticks([0.3 - row for row in range(len(of))], names)
        axes.set_ylim(0.8 - len(of), 0.8)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("margin", labelpad=10)
        kinds = [kind for kind in LOOKS if any(h[kind] for h in of)]
        axes.legend(
            [Line2D([], [], **LOOKS[kind]) for kind in kinds],
            kinds,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=3,
            borderpad=0,
            fontsize=SMALL,
        )
    name = visible(named(record))
    return Drawn(
        name=f"worst-{record['forget_set']}-{name}",
        title=f"worst forget points of {name}, {visible(record['forget_set'])}",
        caption=(
            "Margins of the forget points with the highest KLOM, a histogram over models each: of "
            "oracles, of the originals, and of the unlearned models, which should lie on the "
            f"oracles. Each row has its own scale, as wide as its margins. {about(record)}"
        ),
        figure=figure,
    )


def _ridge(axes: Axes, of: HistogramJson, at: float) -> None:
    """Counts of one point on a line of its own, as wide as its margins go."""
    counts = {kind: np.asarray(of[kind]) for kind in LOOKS if of[kind]}
    highest = max(int(c.max()) for c in counts.values()) or 1
    edges = _across(of["edges"], of["edges"])
    for kind, models in counts.items():
        heights = at + HIGH * models / highest
        look = LOOKS[kind]
        if kind in FILLED:
            shade = {"color": look["color"], "alpha": FILLED[kind], "lw": 0}
            axes.stairs(heights, edges, baseline=at, fill=True, **shade)
        axes.stairs(heights, edges, baseline=at, gid=f"{kind}-{of['point']}", **look)


def _ends(axes: Axes, edges: Sequence[float], at: float) -> None:
    """The margins that a line ends at, and 0 where it lies between and there is room."""
    marks = [(0.0, edges[0], "left"), (1.0, edges[-1], "right")]
    zero = float(_across([0.0], edges)[0])
    if 0.2 < zero < 0.8:
        marks.append((zero, 0.0, "center"))
    if 0 <= zero <= 1:
        axes.plot([zero, zero], [at, at - 0.04], color=INK, lw=0.6)
    for x, margin, side in marks:
        axes.text(x, at - 0.05, _short(margin), ha=side, va="top", fontsize=SMALL)


def _across(margins: Sequence[float], edges: Sequence[float]) -> np.ndarray:
    """From the first edge, 0, to the last, 1."""
    return (np.asarray(margins) - edges[0]) / ((edges[-1] - edges[0]) or 1.0)


def _short(margin: float) -> str:
    return f"{margin:.3g}" if abs(margin) < 1000 else f"{margin:.0f}"


def _klom(value: float | None) -> str:
    return "n/a" if value is None else f"KLOM {value:.1f}"
