"""`klom report`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from klom_bench.cli.common import Commands, progress
from klom_bench.errors import KlomError, unknown, visible

if TYPE_CHECKING:
    from klom_bench.report.runs import SavedRun

EXAMPLES = """examples:
  pytest --klom-method=all --benchmark-json=all.json; klom report all.json
  klom report all.json --metric p95 -o table.tex
  klom report all.json --format csv > all.csv
  klom report all.json --format pdf -o figures --forget-set 3,5

Each cell of a table is a number on the forget / retain / val points; the cost is counted: training
examples a member saw over those of a retraining, in the mean over the sets."""
TABLES = {"markdown": ".md", "latex": ".tex", "csv": ".csv"}
"""And how files of each end."""
FIGURES = ("svg", "png", "pdf")
"""A folder of them."""


def add(commands: Commands) -> None:
    """The command."""
    text = "tables and figures of methods by forget sets, from benchmark JSONs"
    report = commands.add("report", run, text, EXAMPLES)
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of --benchmark-json")
    report.add_argument(
        "--format",
        choices=(*TABLES, *FIGURES),
        help=f"tables: {', '.join(TABLES)} (default: by the ending of --output, else markdown); "
        f"figures: {', '.join(FIGURES)}",
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
        help="a file, instead of printing; of figures a folder (default: klom-figures)",
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


def run(args: argparse.Namespace) -> int:
    """`klom report`."""
    from klom_bench.report.chosen import chosen
    from klom_bench.report.runs import runs_in

    runs = chosen(runs_in(args.files), args.method, args.forget_set)
    return _figures(args, runs) if args.format in FIGURES else _table(args, runs)


def _table(args: argparse.Namespace, runs: "list[SavedRun]") -> int:
    from klom_bench.files.atomic import write_whole
    from klom_bench.report.paper.formats import text_of
    from klom_bench.report.paper.scores import METRICS

    if args.metric not in (None, *METRICS):
        raise KlomError(f"--metric: {unknown('metric', args.metric, METRICS)}")
    text = text_of(runs, _format(args), args.metric)
    if args.output:
        write_whole(args.output, text.encode())
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
    by_ending = {ending: name for name, ending in TABLES.items()}
    if args.format or not args.output:
        return args.format or "markdown"
    if args.output.suffix not in by_ending:
        raise KlomError(
            f"{args.output} says no format: give --format, or end it in {', '.join(by_ending)}"
        )
    return by_ending[args.output.suffix]
