"""One HTML file that says what runs found: it needs no network, and no other file."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from klom_bench.errors import visible
from klom_bench.report.figures.canvas import Drawn, inline_svg
from klom_bench.report.figures.every import SECTIONS, figure_of_row, figures
from klom_bench.report.history import in_order
from klom_bench.report.page import details, rows
from klom_bench.report.page.changes import changes
from klom_bench.report.page.first_screen import first_screen
from klom_bench.report.page.joined import joined, share_tests
from klom_bench.report.page.past import past
from klom_bench.report.page.points import Example
from klom_bench.report.page.rows import Line
from klom_bench.report.remarks import outcome
from klom_bench.report.runs import SavedRun

AT_ONCE = 500
"""Rows of a table that are seen before more are asked for."""
MANY = 200
"""From so many rows on browsers lay a section out when it is near, so that the page opens fast."""


@dataclass(frozen=True)
class Figure:
    """A figure in the page; choice: as JSON, empty where there is nothing to choose."""

    svg: Markup
    title: str
    caption: str
    choice: str


@dataclass(frozen=True)
class Detail:
    """All of one row. place: of its line among those with a record."""

    place: int
    title: str
    outcome: str
    texts: Sequence[tuple[str, str]]
    figure: Figure | None


def page(
    runs: Sequence[SavedRun],
    failures: Mapping[str, str] | None = None,
    examples: Mapping[str, Sequence[Example]] | None = None,
    draw: bool = True,
) -> str:
    """The page of these runs; of several the last is shown, and how it differs from the others.

    Args:
        runs: in any order where they are more than two; of two the second is held beside the first.
        failures: what tests that failed said, by their ids.
        examples: points to be shown, by forget set; these are somebody's data.
        draw: whether there are figures, which take nearly all of the time.
    """
    runs = in_order(runs) if len(runs) > 2 else runs
    run, shares = joined(runs), share_tests(runs)
    lines, heads = rows.lines(run), rows.columns(run)
    said = {id(record): details.gates_said(record) for record in run.records}
    measured = [i for i, line in enumerate(lines) if line.record]
    place = {i: n for n, i in enumerate(measured)}
    content = {
        "first": first_screen(run, runs, failures or {}),
        "runs": runs,
        "sections": _sections(run) if draw else {},
        "headings": SECTIONS,
        "heads": heads,
        "lines": [(line, place.get(i)) for i, line in enumerate(lines)],
        "ends": _ends(heads),
        "gates_head": details.GATES,
        "gates": [
            row for record in run.records for row in details.gate_rows(record, said[id(record)])
        ],
        "details": [_detail(lines[i], place[i], said, draw) for i in details.first(lines)],
        "measured": len(measured),
        "changes": changes(*runs) if shares and len(runs) == 2 else None,
        "past": past(runs) if shares and len(runs) > 2 else None,
        "examples": examples,
        "data": _packed(_data([lines[i] for i in measured], said)),
        "at_once": AT_ONCE,
        "late": Markup(' class="late"') if len(lines) > MANY else "",
        "style": Markup(_part("page.css")),
        "script": Markup(_part("page.js")),
        "script_hash": _hash(_part("page.js")),
    }
    return str(_template().render(content))


def _sections(run: SavedRun) -> dict[str, list[Figure]]:
    found: dict[str, list[Figure]] = {}
    if run.records:
        for section, drawn in figures(run):
            found.setdefault(section, []).append(_figure(drawn))
    return {section: found[section] for section in (*SECTIONS, *found) if section in found}


def _figure(drawn: Drawn) -> Figure:
    choice = json.dumps(dict(drawn.choice)) if drawn.choice else ""
    svg = re.sub(r'(?<= )(d|transform|x|y)="[^"]*"', _shorter, inline_svg(drawn))
    return Figure(Markup(svg), drawn.title, drawn.caption, choice)


def _shorter(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point: all that a screen shows, and a sixth less to send."""
    return re.sub(r"(\.\d\d)\d+|(?<=\s)\s+", r"\1", attribute[0])


def _detail(
    line: Line, place: int, said: Mapping[int, Sequence[Sequence[str]]], draw: bool
) -> Detail:
    record = line.record
    assert record is not None
    texts = _texts(line, said)
    drawn = figure_of_row(record) if draw else None
    return Detail(
        place,
        details.title(record, record),
        outcome(record),
        [(label, text) for label, text in zip(details.LABELS, texts, strict=True) if text],
        _figure(drawn) if drawn else None,
    )


def _texts(line: Line, said: Mapping[int, Sequence[Sequence[str]]]) -> list[str]:
    assert line.record is not None
    assert line.of is not None
    every = [text for of in said[id(line.record)] for text in of]
    return details.details(line.record, line.of, every)


def _data(lines: Sequence[Line], said: Mapping[int, Sequence[Sequence[str]]]) -> dict[str, Any]:
    """What the script draws details from, and files are made of."""
    found = [
        rows.numbers(line.record, line.of) for line in lines if line.record and line.of is not None
    ]
    return {
        "columns": [*found[0]] if found else [],
        "rows": [[*row.values()] for row in found],
        "labels": details.LABELS,
        "details": [_texts(line, said) for line in lines],
    }


def _ends(heads: Sequence[rows.Column]) -> dict[str, tuple[int, int]]:
    """The first and last column of each kind, counted from 1."""
    found = {}
    for kind in rows.KINDS:
        mine = [i for i, column in enumerate(heads, 1) if column.kind == kind]
        found[kind] = mine[0], mine[-1]
    return found


def _packed(content: Any) -> str:
    """JSON, compressed, in letters: the script unpacks it when somebody wants it."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _hash(script: str) -> str:
    """What the page's policy knows its own script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _part(name: str) -> str:
    return files("klom_bench.report.page").joinpath(name).read_text(encoding="utf-8")


def _seen(value: Any) -> Any:
    """Names and messages without characters that act; what is markup is ours."""
    return "\n".join(map(visible, value.split("\n"))) if type(value) is str else value


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, finalize=_seen, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("page.html"))
