"""All figures of a run."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import count

from klom_bench.cell.record_json import OfTest, RecordJson
from klom_bench.errors import visible
from klom_bench.report.figures.canvas import SCREEN, Drawn
from klom_bench.report.figures.cost import cost
from klom_bench.report.figures.epochs import epochs
from klom_bench.report.figures.heat_map import heat_map
from klom_bench.report.figures.plane import plane
from klom_bench.report.figures.points import points
from klom_bench.report.figures.ramp import ramp_of
from klom_bench.report.figures.views import SCORES, View, mean_of, sets_of, view
from klom_bench.report.figures.worst import worst
from klom_bench.report.runs import SavedRun
from klom_bench.report.table import named

SECTIONS = {
    "plane": "What is forgotten, and what it cost the rest",
    "cost": "Score against cost",
    "epochs": "Score against epoch",
    "points": "How scores are distributed over points",
    "map": "Methods by forget sets",
}
"""Headings, in the order of a page."""
Draw = Callable[[], Drawn | None]
MOST_SETS, FEW_SETS, MANY_ROWS = 12, 4, 1000
"""Forget sets with figures of their own, those with most rows: fewer where there are many rows."""


def figures(run: SavedRun, width: float = SCREEN) -> Iterator[tuple[str, Drawn]]:
    """Figures and the sections that they belong to; several of one section differ in `choice`.

    width: in inches.
    """
    taken: set[str] = set()
    for section, draw in drawings(run, width):
        if drawn := draw():
            yield section, with_own_name(drawn, taken)


def drawings(run: SavedRun, width: float = SCREEN) -> list[tuple[str, Draw]]:
    """What is to be drawn, by section; None is drawn where there is nothing to see."""
    groups = sets_of(run.records)
    shown = _with_most_rows(groups)
    every = {
        score: [of for name, records in groups.items() if (of := view(name, records, score))]
        for score in SCORES
    }
    ramp = ramp_of(s.cost for views in every.values() for of in views for s in of.spots)
    own = [of for views in every.values() for of in _own(views, shown)]
    return [
        *(
            ("plane", partial(plane, of, split, ramp, width))
            for of in own
            for split in ("val", "retain")
        ),
        *(("cost", partial(cost, of, width)) for of in own),
        *(
            ("epochs", partial(epochs, of, width))
            for of in own
            if any(not s.last for s in of.spots)
        ),
        *(("points", partial(points, name, groups[name], width)) for name in shown),
        *(
            ("map", partial(heat_map, views, _missing(run), width))
            for views in every.values()
            if views
        ),
    ]


def _own(views: Sequence[View], shown: Collection[str]) -> list[View]:
    """Those with a figure of their own, and the mean of all."""
    mean = mean_of(views)
    return [
        *(_saying(of, len(views) - len(shown)) for of in views if of.forget_set in shown),
        *([mean] if mean else []),
    ]


def _saying(view: View, not_drawn: int) -> View:
    """The same, and how many sets have no figure."""
    if not_drawn <= 0:
        return view
    return replace(
        view,
        left_out=f"{not_drawn} forget sets with fewer rows have no figure of their own: "
        "`klom report RUN.json --format svg --forget-set NAME` draws one.",
    )


def figure_of_row(record: RecordJson, width: float = SCREEN) -> Drawn | None:
    """Details of one row: its worst points; None where there are none."""
    drawn = worst(record, width)
    return drawn and replace(drawn, name=_plain(drawn.name))


def _with_most_rows(groups: dict[str, list[RecordJson]]) -> list[str]:
    """In their own order."""
    number = FEW_SETS if sum(map(len, groups.values())) > MANY_ROWS else MOST_SETS
    most = sorted(groups, key=lambda name: -len(groups[name]))[:number]
    return [name for name in groups if name in most]


def _missing(run: SavedRun) -> list[tuple[str, OfTest, str]]:
    """Rows without a score: where a method does not apply, and what failed."""
    unfit: list[tuple[str, OfTest, str]] = [
        (visible(named(row)), row, "n/a") for row in run.rows if "unfit" in row
    ]
    known = {(row["method"], row["setting"]): visible(named(row)) for row in run.rows}
    ended = [
        (
            known.get(
                (of["method"], of["setting"]), visible(f"{of['method']} {of['setting']}".strip())
            ),
            of,
            "failed",
        )
        for of in run.failed
    ]
    return [*unfit, *ended]


def with_own_name(drawn: Drawn, taken: set[str]) -> Drawn:
    """The same, named in letters of files as none of `taken`, to which it is added."""
    plain = _plain(drawn.name)
    candidates = (f"{plain}-{i}" if i > 1 else plain for i in count(1))
    own = next(name for name in candidates if name.lower() not in taken)
    taken.add(own.lower())
    return replace(drawn, name=own)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:80]
