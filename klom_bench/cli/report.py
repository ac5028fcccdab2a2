"""`klom report`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from klom_bench.cli.common import Commands, progress, put_file
from klom_bench.errors import KlomError, unknown, visible

if TYPE_CHECKING:
    from klom_bench.report.runs import SavedRun

EXAMPLES = """examples:
  pytest --klom-method=all --benchmark-json=all.json; klom report all.json
  klom report all.json --metric p95 -o table.tex
  klom report all.json --format csv > all.csv
  klom report all.json --format pdf -o figures --forget-set 3,5
  klom report before.json now.json -o report.html

Each cell of a table is a number on the forget / retain / val points; the cost is counted: training
examples a member saw over those of a retraining, in the mean over the sets. html is a page to look
at and to send (`klom help report`); of several files it says what changed, too."""
TABLES = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}
HTML = "html"
ENDINGS = {**TABLES, HTML: ".html"}
"""How files of each end."""
FIGURES = ("svg", "png", "pdf")
"""A folder of them."""


def add(commands: Commands) -> None:
    """The command."""
    text = "tables, figures, or a page with all there is, from benchmark JSONs"
    report = commands.add("report", run, text, EXAMPLES)
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of --benchmark-json")
    report.add_argument(
        "--format",
        choices=(*TABLES, *FIGURES, HTML),
        help=f"tables: {', '.join(TABLES)}; figures: {', '.join(FIGURES)}; a page: {HTML} "
        "(default: by the ending of --output, else markdown)",
    )
    report.add_argument(
        "--metric",
        metavar="NAME",
        help="of tables: excess, mean, p50, p95, p99, reverse_mean, ... (default: excess, or p95 "
        "where no test has that)",
    )
    report.add_argument(
        "--width",
        choices=("column", "page"),
        default="column",
        help="of figures: one column of a paper of two, or both (default: column)",
    )
    report.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="a file, instead of printing (default of the page: report.html); of figures a folder "
        "(default: klom-figures)",
    )
    report.add_argument(
        "--method", action="append", default=[], metavar="METHODS", help="by name; repeatable"
    )
    report.add_argument(
        "--forget-set",
        action="append",
        default=[],
        metavar="SETS",
        help="by name, number or range: forget_set_3, 3, 1-3; repeatable",
    )
    report.add_argument(
        "--examples",
        action="store_true",
        help="of the page: show the points that were left worst; they are somebody's data",
    )


def run(args: argparse.Namespace) -> int:
    """`klom report`."""
    from klom_bench.report.chosen import chosen
    from klom_bench.report.runs import runs_in

    form = _format(args)
    if args.examples and form != HTML:
        raise KlomError(f"--examples is of --format {HTML}, not of {form}")
    runs = chosen(runs_in(args.files), args.method, args.forget_set)
    if form == HTML:
        from klom_bench.cli.page import write_page

        sys.stdout.write(f"{visible(write_page(runs, args.output, args.examples))}\n")
        return 0
    return _figures(args, runs) if form in FIGURES else _table(args, runs, form)


def _table(args: argparse.Namespace, runs: "list[SavedRun]", form: str) -> int:
    from klom_bench.report.paper.formats import text_of
    from klom_bench.report.paper.scores import METRICS

    if args.metric not in (None, *METRICS):
        raise KlomError(f"--metric: {unknown('metric', args.metric, METRICS)}")
    text = text_of(runs, form, args.metric)
    if args.output:
        put_file(args.output, text.encode())
    else:
        sys.stdout.write(text)
    return 0


def _figures(args: argparse.Namespace, runs: "list[SavedRun]") -> int:
    from klom_bench.report.extra import refuse_without_extra

    refuse_without_extra(f"--format {args.format}")
    from klom_bench.report.chosen import as_one
    from klom_bench.report.figures.canvas import COLUMN, PAGE
    from klom_bench.report.figures.files import write_figures

    folder, width = args.output or Path("klom-figures"), COLUMN if args.width == "column" else PAGE
    for path in write_figures(as_one(runs), folder, args.format, width, progress()):
        sys.stdout.write(f"{visible(str(path))}\n")
    return 0


def _format(args: argparse.Namespace) -> str:
    by_ending = {ending: name for name, ending in ENDINGS.items()}
    if args.format or not args.output:
        return args.format or "markdown"
    if args.output.suffix not in by_ending:
        raise KlomError(
            f"{args.output} says no format: give --format, or end it in {', '.join(by_ending)}"
        )
    return by_ending[args.output.suffix]
