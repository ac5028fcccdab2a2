"""`klom report`."""

import argparse
import sys
from pathlib import Path

from klom_bench.cli.common import Commands

EXAMPLES = """examples:
  pytest --klom-method=all --benchmark-json=all.json; klom report all.json

Each cell is the P95 of KLOM on the forget / retain / val points; the cost is counted: training
examples a member saw over those of a retraining, in the mean over the sets."""


def add(commands: Commands) -> None:
    """The command."""
    text = "methods by forget sets in Markdown, from benchmark JSONs"
    report = commands.add("report", run, text, EXAMPLES)
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of --benchmark-json")


def run(args: argparse.Namespace) -> int:
    """`klom report`."""
    from klom_bench.report.matrix import matrix, records_in

    sys.stdout.write(matrix(records_in(args.files)))
    return 0
