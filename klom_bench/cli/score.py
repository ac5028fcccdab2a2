"""`klom score`."""

import argparse
import sys
from pathlib import Path

from klom_bench.cli.common import Commands, add_json, put_json
from klom_bench.errors import KlomError

EXAMPLES = """examples:
  klom score oracles.npy unlearned.npy
  klom score oracle_models/CIFAR10/only_margins/forget_set_3 my_margins/ \\
      --forget-indices forget_set_indices/CIFAR10/forget_set_3.npy --json

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
        help="the first N points are train points, the others val (where one array holds all)",
    )
    score.add_argument("--estimator", default="default", help="as --klom-estimator")

    add_json(score)


def run(args: argparse.Namespace) -> int:
    """`klom score`."""
    from klom_bench.files.arrays import read_array
    from klom_bench.files.margins import read_margins
    from klom_bench.metrics.estimators import estimator_named
    from klom_bench.score import score

    try:
        estimator = estimator_named(args.estimator)
    except ValueError as error:
        raise KlomError(str(error)) from error
    indices = read_array(args.forget_indices) if args.forget_indices else None
    oracle, unlearned = read_margins(args.oracle), read_margins(args.unlearned)
    found = score(oracle, unlearned, estimator, indices, args.train_points)
    for note in found.notes:
        sys.stderr.write(f"klom score: {note}\n")
    if args.json:
        return put_json(found.as_json())
    from klom_bench.report.scores import score_table

    sys.stdout.write(score_table(found) + "\n")
    return 0
