"""The margins of the points that a method gets most wrong."""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from klom_bench.cell.record_json import HistogramJson, RecordJson
from klom_bench.errors import visible
from klom_bench.report.figures.canvas import (
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
FILLED = {"oracles": 0.3, "unlearned": 0.35}


def worst(record: RecordJson, width: float = SCREEN) -> Drawn | None:
    """A row a point: histograms over models; None where a record has none."""
    of = record["histograms"]
    if not of:
        return None
    scores = {point["point"]: point["klom"] for point in record["worst"].get("forget", ())}
    with style():
        figure = blank(width, 0.42 * len(of) + 0.75)
        (axes,) = panels(figure, left=0.85, top=0.3)
        for row, histogram in enumerate(of):
            _ridge(axes, histogram, len(of) - 1 - row)
        names = [f"point {h['point']}\n{_klom(scores.get(h['point']))}" for h in of]
        axes.set_yticks([len(of) - 1 - row + 0.4 for row in range(len(of))], names)
        axes.set_ylim(-0.05, len(of))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("margin: log-odds of the right class")
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
            f"oracles. Each row is as high as its highest bin. {about(record)}"
        ),
        figure=figure,
    )


def _ridge(axes: Axes, of: HistogramJson, at: int) -> None:
    """Bins at the ends hold what lies beyond them, too."""
    counts = {kind: np.asarray(of[kind]) for kind in LOOKS if of[kind]}
    highest = max(int(c.max()) for c in counts.values()) or 1
    for kind, heights in counts.items():
        axes.stairs(
            at + 0.88 * heights / highest,
            of["edges"],
            baseline=at,
            gid=f"{kind}-{of['point']}",
            **LOOKS[kind],
        )
        if kind in FILLED:
            axes.stairs(
                at + 0.88 * heights / highest,
                of["edges"],
                baseline=at,
                fill=True,
                color=LOOKS[kind]["color"],
                alpha=FILLED[kind],
                lw=0,
            )


def _klom(value: float | None) -> str:
    return "n/a" if value is None else f"KLOM {value:.1f}"
