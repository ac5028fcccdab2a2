"""`klom compare`."""

import argparse
import sys
from pathlib import Path

from klom_bench.cli.common import Commands, add_json, put_json
from klom_bench.errors import KlomError, unknown, visible, visible_lines

EXAMPLES = """examples:
  klom compare klom-baseline.json now.json
  klom compare now.json --metric val_excess

Of two files, BEFORE and NOW: what is better or worse, by how much, and which change would have been
seen. Of one: which of its methods is the best on each forget set, with ties where that cannot be
told. A file is of --benchmark-json or --benchmark-autosave, or one of --klom-save-baseline."""


def add(commands: Commands) -> None:
    """The command."""
    text = "two runs, or the methods of one, beside each other"
    parser = commands.add("compare", run, text, EXAMPLES)
    parser.add_argument("before", type=Path, metavar="BEFORE", help="a file, or the only one")
    parser.add_argument("now", type=Path, nargs="?", metavar="NOW", help="what is judged")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        help="as limits name it: forget_excess, val_mean; repeatable (default: excess and mean of "
        "all splits; of one file: forget_excess)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """`klom compare`."""
    from klom_bench.cell.baseline import load
    from klom_bench.cell.gates import METRICS
    from klom_bench.report.differences import Differences
    from klom_bench.report.ranking import Ranking

    for metric in args.metric:
        if metric not in METRICS:
            raise KlomError(f"--metric: {unknown('metric', metric, METRICS)}")
    first = load(args.before)
    found = (
        Differences(first, load(args.now), args.metric) if args.now else Ranking(first, args.metric)
    )
    if args.json:
        return put_json(found.as_json())
    sys.stdout.write(visible_lines("\n".join(map(visible, found.lines()))) + "\n")
    return 0
