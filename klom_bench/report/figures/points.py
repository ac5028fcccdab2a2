"""How KLOM is distributed over points, beside models retrained twice."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes

from klom_bench.cell.record_json import RecordJson
from klom_bench.errors import visible
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor_scores
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.figures.axes import scaled
from klom_bench.report.figures.canvas import (
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    SCREEN,
    Drawn,
    blank,
    panels,
    sentences,
    style,
)
from klom_bench.report.figures.naming import cut, inches
from klom_bench.report.figures.views import about
from klom_bench.report.table import named

BEST, WORST = 4, 2
"""Of more methods so many are drawn, by their P95 on the forget set."""
LEAST = 0.02
"""So small a share of points is not looked for on the axis."""
NULL = "retrained models"
Curve = tuple[np.ndarray, np.ndarray]
"""KLOM, and the share of points up to it."""


def points(forget_set: str, records: Sequence[RecordJson], width: float = SCREEN) -> Drawn | None:
    """Shares of the points of each split up to a KLOM, a line a method; None without a number."""
    told = [r for r in records if r["method"] != "do_nothing" and _p95(r) is not None]
    told.sort(key=lambda record: _p95(record) or 0.0)
    drawn = told if len(told) <= BEST + WORST else [*told[:BEST], *told[-WORST:]]
    if not drawn:
        return None
    with style():
        across = width > 4.5
        longest = max(inches(text) for text in (NULL, *(visible(named(r)) for r in drawn)))
        columns = max(1, int(width / (0.5 + longest)))
        top = 0.35 + 0.16 * ceil((len(drawn) + 2) / columns)
        figure = blank(width, (1.6 if across else 4.4) + top)
        shape, gap = ((1, 3), 0.12) if across else ((3, 1), 0.4)
        each = panels(figure, *shape, top=top, gap=gap)
        null = _null(drawn[0])
        known = [null, *(_do_nothing(records, split) for split in SPLITS)]
        known += [_curve(record, split) for record in drawn for split in SPLITS]
        ends = [v for curve in known if curve for v in curve[0][curve[1] > LEAST]]
        for axes, split in zip(each, SPLITS, strict=True):
            idle = _do_nothing(records, split)
            scaled(axes, "x", ends)
            _split(axes, split, drawn, null, idle)
            axes.set_title(split, loc="left", pad=3)
        for axes in each if not across else each[:1]:
            axes.set_ylabel("share of points")
        for axes in each[1:] if across else ():
            axes.tick_params(labelleft=False)
        (each[1] if across else each[-1]).set_xlabel("KLOM of a point")
        handles, labels = each[0].get_legend_handles_labels()
        labels = [cut(label, 0.6 * width) for label in labels]
        figure.legend(handles, labels, loc="upper left", ncols=columns, columnspacing=1.2)
    return Drawn(
        name=f"points-{forget_set}",
        title=f"KLOM of points, {forget_set}",
        caption=_caption(drawn, told, null is not None),
        figure=figure,
        choice={"forget set": forget_set},
    )


def _p95(record: RecordJson) -> float | None:
    return record["scores"]["forget"]["p95"]


def _split(
    axes: Axes, split: str, drawn: Sequence[RecordJson], null: Curve | None, idle: Curve | None
) -> None:
    if null:
        end = max(axes.get_xlim()[1], null[0][-1])
        axes.fill_between([*null[0], end], [*null[1], 1.0], color=FAINT, alpha=0.25, lw=0, zorder=0)
        axes.plot(*null, color=FAINT, lw=1.2, label=NULL, gid=f"{split}-null")
    if idle:
        axes.plot(
            *idle, color=INK, ls=(0, (4, 3)), lw=0.9, label="do nothing", gid=f"{split}-nothing"
        )
    for i, record in enumerate(drawn):
        whole = record["per_point"] is not None
        axes.plot(
            *_curve(record, split),
            color=COLOURS[i % len(COLOURS)],
            lw=1.0,
            marker="" if whole else MARKERS[i % len(MARKERS)],
            ms=3,
            drawstyle="steps-post" if whole else "default",
            label=visible(named(record)),
            gid=f"{split}-{i}",
        )
    axes.set_ylim(0, 1.02)
    axes.set_yticks([0, 0.5, 1])


def _curve(record: RecordJson, split: str) -> Curve:
    """All points where they were kept, else the percentiles that are known."""
    if of := record["per_point"]:
        values = [of["klom"][point] for point in of["splits"][split]]
        return _ecdf([value for value in values if value is not None])
    known = {int(q[1:]): v for q, v in record["quantiles"][split].items() if v is not None}
    return np.array([*known.values()]), np.array([*known]) / 100


def _do_nothing(records: Sequence[RecordJson], split: str) -> Curve | None:
    """Of the row that did nothing, else the percentiles that every record has."""
    for record in records:
        if record["method"] == "do_nothing":
            return _curve(record, split)
    of = records[0]["do_nothing"][split]
    known = {int(q[1:]): v for q, v in of.items() if q != "mean" and v is not None}
    return (np.array([*known.values()]), np.array([*known]) / 100) if known else None


def _null(record: RecordJson) -> Curve | None:
    """Of retrained models, simulated; None for an estimator of which nothing is known."""
    estimator = ESTIMATORS.get(record["estimator"]["name"])
    if estimator is None:
        return None
    members = record["members"]
    scores = floor_scores(estimator, members["oracle"], members["unlearned"])
    shares = np.linspace(0, 1, 61)
    return np.quantile(scores, shares), shares


def _ecdf(values: Sequence[float]) -> Curve:
    ordered = np.sort(np.asarray(values))
    return ordered, np.arange(1, len(ordered) + 1) / max(len(ordered), 1)


def _caption(drawn: Sequence[RecordJson], told: Sequence[RecordJson], null: bool) -> str:
    said = ["The share of forget, retain and val points whose KLOM is at most so high."]
    if any(record["per_point"] is None for record in drawn):
        said.append(
            "Markers are the percentiles 5, 25, 50, 75, 95, 99 and 100, joined by lines (of doing "
            "nothing 50, 95 and 99)."
        )
    if null:
        said.append(
            "Grey is what retrained models have beside retrained models, simulated with Gaussian "
            "margins: a method whose line lies there is perfect."
        )
    if len(drawn) < len(told):
        said.append(
            f"Of {len(told)} methods and settings the {BEST} best and the {WORST} worst by P95 on "
            "the forget set are drawn."
        )
    return sentences(*said, about(drawn[0]))
