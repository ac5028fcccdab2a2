"""`klom history`."""

import argparse
import sys
from pathlib import Path

from klom_bench.cli.common import Commands, add_json, put_json
from klom_bench.errors import KlomError, unknown, visible, visible_lines

STORAGE = Path(".benchmarks")
"""Where pytest-benchmark keeps runs, below the folder in which pytest is started."""
EXAMPLES = """examples:
  pytest --klom-method=ga --benchmark-autosave; klom history
  klom history .benchmarks nightly.json --metric forget_p95 --test forget_set_3-ga

Each run beside the last one before it that was measured in the same way: better, worse, or no
difference, and since which commit. Of more than 12 tables those of changes are shown."""


def add(commands: Commands) -> None:
    """The command."""
    text = "each test from run to run: better or worse, and since when"
    parser = commands.add("history", run, text, EXAMPLES)
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        metavar="FILE|FOLDER",
        help="files of --benchmark-json or --benchmark-autosave, or folders with such (default: "
        ".benchmarks, where pytest-benchmark keeps them)",
    )
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        help="as limits name it: forget_excess, val_p95; repeatable (default: forget_excess and "
        "val_excess)",
    )
    parser.add_argument(
        "--test", metavar="PART", help="only tests with this in their name: forget_set_3-ga"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """`klom history`."""
    from klom_bench.cell.gates import METRICS
    from klom_bench.report.history import USUAL, histories, in_order, what_of_the_runs
    from klom_bench.report.history_table import as_json, lines
    from klom_bench.report.runs import SavedRun, runs_below, runs_in

    for metric in args.metric:
        if metric not in METRICS:
            raise KlomError(f"--metric: {unknown('metric', metric, METRICS)}")
    metrics = args.metric or USUAL
    if not args.paths and not STORAGE.is_dir():
        raise KlomError(
            f"there is no folder {STORAGE} here: run pytest with --klom-method and "
            "--benchmark-autosave, which keeps runs there, or name files and folders"
        )
    given, said = list[SavedRun](), list[str]()
    for path in args.paths or [STORAGE]:
        runs, about = runs_below(path) if path.is_dir() else (runs_in([path]), [])
        given, said = given + runs, said + about
    if not given:
        where = ", ".join(str(path) for path in args.paths or [STORAGE])
        raise KlomError(
            "; ".join([f"{where}: no run of KLOM tests", *said])
            + ". pytest with --klom-method and --benchmark-autosave keeps one"
        )
    said += what_of_the_runs(given)
    runs = in_order(given)
    found = [of for of in histories(runs, metrics) if (args.test or "") in of.name]
    if not found:
        tests = f" of a test with {args.test!r} in its name" if args.test else ""
        raise KlomError(
            f"no run has a number for {' or '.join(metrics)}{tests}: excess needs five models a "
            "side, `--metric forget_mean` fewer"
        )
    if args.json:
        return put_json(as_json(found, runs, said))
    text = [*lines(found, every=args.test is not None), *said]
    sys.stdout.write(visible_lines("\n".join(map(visible, text))) + "\n")
    return 0
