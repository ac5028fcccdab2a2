"""Tables for a README or a page."""

import textwrap
from collections.abc import Iterator, Sequence

from klom_bench.report.markdown import code, plain
from klom_bench.report.paper.layout import blocks, head, number
from klom_bench.report.paper.tables import Cell, Line, Table

CHARACTERS = 150
"""Wider tables are hardly read on a page."""
LINE = 118


def markdown(tables: Sequence[Table]) -> str:
    """Each with its caption above; where there are many sets, some after the others."""
    return "\n\n".join(
        "\n\n".join([textwrap.fill(plain(table.caption), LINE), *_blocks(table)])
        for table in tables
    ) + "\n"  # fmt: skip


def _blocks(table: Table) -> Iterator[str]:
    for block in blocks(table, CHARACTERS):
        heads = ["method", *map(plain, map(head, table.sets[block])), "cost"]
        above = [_row(line.name, line, block, table.metric) for line in table.above]
        methods = [_row(code(line.name), line, block, table.metric) for line in table.methods]
        yield "\n".join(map(_line, [heads, ["---"] * len(heads), *above, *methods]))


def _row(name: str, line: Line, block: slice, metric: str) -> list[str]:
    return [name, *(_cell(cell, metric) for cell in line.cells[block]), line.cost]


def _cell(cell: Cell, metric: str) -> str:
    if isinstance(cell.scores, str):
        return cell.scores
    forget, *rest = (number(score, metric, " ±") for score in cell.scores)
    return " / ".join([f"**{forget}**" if cell.best else forget, *rest])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
