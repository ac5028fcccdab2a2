"""The formats of `klom report` that are text."""

from collections.abc import Sequence

from klom_bench.report.paper.latex import latex
from klom_bench.report.paper.markdown import markdown
from klom_bench.report.paper.tables import tables
from klom_bench.report.paper.values import csv_lines
from klom_bench.report.runs import SavedRun


def text_of(runs: Sequence[SavedRun], form: str, metric: str | None = None) -> str:
    """Runs as latex, markdown or csv, which has all metrics; KlomError as `tables`."""
    if form == "csv":
        return csv_lines(runs)
    return {"latex": latex, "markdown": markdown}[form](tables(runs, metric))
