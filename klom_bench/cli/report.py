"""`klom report`."""

import argparse
import sys
from pathlib import Path

from klom_bench.cli.common import Commands
from klom_bench.errors import KlomError, unknown, visible

EXAMPLES = """examples:
  pytest --klom-method=all --benchmark-json=all.json; klom report all.json
  klom report all.json --metric p95 -o table.tex
  klom report all.json --format csv > all.csv
  klom report before.json now.json -o report.html

Each cell of a table is a number on the forget / retain / val points; the cost is counted: training
examples a member saw over those of a retraining, in the mean over the sets. html is a page to look
at and to send (`klom help report`); of several files it says what changed, too."""
FORMATS = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}
"""And how files of each end."""


def add(commands: Commands) -> None:
    """The command."""
    text = "methods by forget sets, from benchmark JSONs: Markdown, LaTeX, CSV, or a page of all"
    report = commands.add("report", run, text, EXAMPLES)
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of --benchmark-json")
    report.add_argument(
        "--format",
        choices=FORMATS,
        help=f"{', '.join(FORMATS)} (default: by the ending of --output, else markdown)",
    )
    report.add_argument(
        "--metric",
        metavar="NAME",
        help="of tables: excess, mean, p50, p95, p99, reverse_mean, ... (default: excess, or p95 "
        "where no test has that)",
    )
    report.add_argument("-o", "--output", type=Path, metavar="FILE", help="instead of printing")
    report.add_argument(
        "--examples",
        action="store_true",
        help="of html: show the points that were left worst; they are somebody's data",
    )


def run(args: argparse.Namespace) -> int:
    """`klom report`."""
    form = _format(args)
    if form == "html":
        from klom_bench.cli.page import write_page

        sys.stdout.write(f"{visible(write_page(args.files, args.output, args.examples))}\n")
        return 0
    if args.examples:
        raise KlomError(f"--examples is of --format html, not of {form}")
    from klom_bench.files.atomic import write_whole
    from klom_bench.report.paper.formats import text_of
    from klom_bench.report.paper.scores import METRICS
    from klom_bench.report.runs import runs_in

    if args.metric not in (None, *METRICS):
        raise KlomError(f"--metric: {unknown('metric', args.metric, METRICS)}")
    text = text_of(runs_in(args.files), form, args.metric)
    if args.output:
        write_whole(args.output, text.encode())
    else:
        sys.stdout.write(text)
    return 0


def _format(args: argparse.Namespace) -> str:
    by_ending = {ending: name for name, ending in FORMATS.items()}
    if args.format or not args.output:
        return args.format or "markdown"
    if args.output.suffix not in by_ending:
        raise KlomError(
            f"{args.output} says no format: give --format, or end it in {', '.join(by_ending)}"
        )
    return by_ending[args.output.suffix]
