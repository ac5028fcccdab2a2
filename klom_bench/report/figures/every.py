"""All figures of a run."""

import re
from collections.abc import Iterator
from dataclasses import replace

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
MOST_SETS = 12
"""Forget sets with figures of their own: those with most rows."""


def figures(run: SavedRun, width: float = SCREEN) -> Iterator[tuple[str, Drawn]]:
    """Figures and the sections that they belong to; several of one section differ in `choice`.

    width: in inches.
    """
    names: set[str] = set()
    for section, drawn in _figures(run, width):
        if drawn is not None:
            yield section, replace(drawn, name=_fresh(drawn.name, names))


def _figures(run: SavedRun, width: float) -> Iterator[tuple[str, Drawn | None]]:
    groups = sets_of(run.records)
    shown = _with_most_rows(groups)
    rest = _not_drawn(len(groups) - len(shown))
    every = {
        score: [of for name, records in groups.items() if (of := view(name, records, score))]
        for score in SCORES
    }
    ramp = ramp_of([s.cost for views in every.values() for of in views for s in of.spots])
    drawn: dict[str, list[View]] = {}
    for score, views in every.items():
        mean = mean_of(views)
        own = [of for of in views if of.forget_set in shown]
        drawn[score] = [replace(of, left_out=rest) if rest else of for of in own]
        drawn[score] += [mean] if mean else []
    for views in drawn.values():
        for of in views:
            for split in ("val", "retain"):
                yield "plane", plane(of, split, ramp, width)
    for views in drawn.values():
        for of in views:
            yield "cost", cost(of, width)
    for views in drawn.values():
        for of in views:
            yield "epochs", epochs(of, width)
    for name in shown:
        yield "points", points(name, groups[name], width)
    for views in every.values():
        if views:
            yield "map", heat_map(views, _missing(run), width)


def figure_of_row(record: RecordJson, width: float = SCREEN) -> Drawn | None:
    """Details of one row: its worst points; None where there are none."""
    drawn = worst(record, width)
    return drawn and replace(drawn, name=_plain(drawn.name))


def _with_most_rows(groups: dict[str, list[RecordJson]]) -> list[str]:
    """In their own order."""
    most = sorted(groups, key=lambda name: -len(groups[name]))[:MOST_SETS]
    return [name for name in groups if name in most]


def _not_drawn(sets: int) -> str:
    if not sets:
        return ""
    return (
        f"{sets} forget sets with fewer rows have no figure of their own: "
        "`klom report RUN.json --forget-set NAME` draws one."
    )


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


def _fresh(name: str, taken: set[str]) -> str:
    """The name in letters of files, numbered where it is there."""
    plain = _plain(name)
    fresh = next(
        candidate
        for candidate in (plain, *(f"{plain}-{i}" for i in range(2, 10_000)))
        if candidate.lower() not in taken
    )
    taken.add(fresh.lower())
    return fresh


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_")[:80]
