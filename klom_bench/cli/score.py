"""`klom score`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klom_bench.cli.common import Commands, add_json, put_json
from klom_bench.errors import KlomError

if TYPE_CHECKING:
    from klom_bench.cell.record import Record
    from klom_bench.files.margins import LooseMargins
    from klom_bench.metrics.estimators import Estimator

EXAMPLES = """examples:
  klom score oracles.npy unlearned.npy
  klom score oracle_models/CIFAR10/only_margins/forget_set_3 my_margins/ \\
      --forget-indices forget_set_indices/CIFAR10/forget_set_3.npy --json
  klom score oracles.npy unlearned.npy --forget-indices forget.npy --train-points 400 \\
      --max forget_p95=2 --baseline klom-baseline.json --max-regression val_mean=25%

ORACLE and UNLEARNED are .npy or .pt files [models, points], a .npz with arrays train, val, retain
or forget, or folders with a file a model (3__train_margins_23.npy, id_3_epoch_23.npy, 3.npy), files
of all models (val_margins_all.pt), or subfolders named after the parts."""


def add(commands: Commands) -> None:
    """The command."""
    text = "KLOM of margins in files, computed in any framework"
    score = commands.add("score", run, text, EXAMPLES)
    score.add_argument("oracle", type=Path, metavar="ORACLE", help="margins of models without F")
    score.add_argument("unlearned", type=Path, metavar="UNLEARNED", help="margins to be judged")
    score.add_argument(
        "--forget-indices", type=Path, metavar="FILE", help="which train points are F: a .npy file"
    )
    score.add_argument(
        "--train-points",
        type=int,
        metavar="N",
        help="the first N points are train points, the others val (where one array holds all; "
        "default: all are train points)",
    )
    score.add_argument(
        "--originals",
        type=Path,
        metavar="FILE",
        help="margins of the models that were unlearned, row by row: what forget_leftover is of",
    )
    score.add_argument("--estimator", default="default", help="as --klom-estimator")
    score.add_argument(
        "--max",
        action="append",
        default=[],
        metavar="METRIC=LIMIT",
        help="exit with 1 above this number, as --klom-max; repeatable; needs --forget-indices",
    )
    score.add_argument(
        "--baseline", type=Path, metavar="FILE", help="scores to compare with, of --save-baseline"
    )
    score.add_argument(
        "--max-regression",
        action="append",
        default=[],
        metavar="METRIC=RISE",
        help="exit with 1 where a score rises above the baseline's by more, as 10%% or 0.2",
    )
    score.add_argument(
        "--save-baseline", type=Path, metavar="FILE", help="write the scores to this file"
    )
    score.add_argument(
        "--name", help="how baselines know these margins (default: the name of UNLEARNED)"
    )
    add_json(score)
    score.set_defaults(bad_input=2)


def run(args: argparse.Namespace) -> int:
    """`klom score`."""
    from klom_bench.files.arrays import read_array
    from klom_bench.files.margins import read_margins
    from klom_bench.metrics.estimators import estimator_named
    from klom_bench.score import score

    estimator = estimator_named(args.estimator)
    indices = read_array(args.forget_indices) if args.forget_indices else None
    oracle, unlearned = read_margins(args.oracle), read_margins(args.unlearned)
    found = score(oracle, unlearned, estimator, indices, args.train_points)
    for note in found.notes:
        sys.stderr.write(f"klom score: {note}\n")
    record = _record(args, oracle, unlearned, indices, estimator)
    text = _failure(record) if record else None
    if args.json:
        gates = record.without_points().to_json() if record else None
        judged: dict[str, Any] = {}
        if gates:
            judged = {"gates": gates["gates"], "verdict": gates["verdict"]}
        if gates and args.originals:
            judged |= {"nearer": gates["nearer"], "leftover": gates["leftover"]}
        put_json(found.as_json() | judged)
    else:
        from klom_bench.report.beside import beside_nothing
        from klom_bench.report.scores import score_table

        sys.stdout.write(score_table(found) + "\n")
        if record and args.originals:
            sys.stdout.write("\n".join(beside_nothing(record.to_json())) + "\n")
        if record and record.gates:
            sys.stdout.write(f"{text or 'within limits'}\n")
    return int(text is not None)


def _failure(record: "Record") -> str | None:
    from klom_bench.report.failure import failure

    return failure(record)


def _record(
    args: argparse.Namespace,
    oracle: "LooseMargins",
    unlearned: "LooseMargins",
    indices: Any,
    estimator: "Estimator",
) -> "Record | None":
    """The same scores held against limits; None where nothing asks for that."""
    asked = (args.max, args.baseline, args.max_regression, args.save_baseline, args.originals)
    if not any(asked):
        return None
    if indices is None:
        raise KlomError(
            "limits, baselines and originals are of splits: say which points are F by "
            "--forget-indices"
        )
    if bool(args.baseline) != bool(args.max_regression):
        raise KlomError("--baseline and --max-regression belong together: how far may scores rise?")
    from klom_bench.cell import baseline
    from klom_bench.cell.gates import checked_limits
    from klom_bench.cell.limits import Limits
    from klom_bench.cell.margins import record_of
    from klom_bench.cell.record_json import test_of
    from klom_bench.files.margins import read_margins
    from klom_bench.literals import literal

    limits = {name: literal(value) for name, value in map(_pair, args.max)}
    earlier = baseline.load(args.baseline) if args.baseline else None
    rises = dict(map(_pair, args.max_regression))
    held = Limits(
        checked_limits(limits, "--max"),
        baseline=earlier,
        regressions={name: baseline.checked_regression(name, r) for name, r in rises.items()},
    )
    record = record_of(
        oracle=replace(oracle, notes=[]),  # they are told already
        unlearned=replace(unlearned, notes=[]),
        originals=read_margins(args.originals) if args.originals else None,
        forget=indices,
        train_points=args.train_points,
        name=args.name or args.unlearned.stem,
        estimator=estimator,
        limits=held,
    )
    content = record.without_points().to_json()
    if earlier:
        earlier.refuse_strangers([test_of(content)])
    if args.save_baseline:
        baseline.save(args.save_baseline, [content])
    return record


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise KlomError(f"NAME=VALUE is expected, as forget_p95=2.0; got {text!r}")
    return name.strip(), value.strip()
