"""`klom tune`."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from klom_bench.cli.common import (
    Commands,
    add_device,
    add_engine,
    add_seed,
    add_store,
    device_of,
    engine_of,
    progress,
    store_of,
    task_named,
)
from klom_bench.errors import KlomError

if TYPE_CHECKING:
    from klom_bench.engine import Engine
    from klom_bench.tuning.trials import Trial

EXAMPLES = """examples:
  klom tune ga scrub --trials 30
  klom tune all
  klom tune my_methods.py:unlearn --range lr=1e-4..1 --range epochs=1..10 --range mode=a|b
  pytest --klom-method=ga --klom-tuned=FILE            # FILE is named at the end

Each trial unlearns three forget sets that share no point with those that are gated, from models and
against oracles of another seed. Every method gets as many trials; every trial is written to the
file as it ends, and the same command goes on where it stopped."""


def add(commands: Commands) -> None:
    """The command."""
    text = "choose hyperparameters of methods, away from what is gated"
    tune = commands.add("tune", run, text, EXAMPLES)
    tune.add_argument(
        "methods",
        nargs="+",
        metavar="METHOD",
        help="a method that `klom list` names, all built-in ones (all), or FILE.py:FUNCTION",
    )
    tune.add_argument("--task", default="digits", help="default: digits")
    tune.add_argument("--trials", type=int, default=30, metavar="T", help="default: 30")
    tune.add_argument(
        "--range",
        action="append",
        default=[],
        metavar="NAME=LOW..HIGH",
        help="or NAME=A|B|C: where to look for a hyperparameter; repeatable",
    )
    tune.add_argument("--output", type=Path, metavar="FOLDER", help="default: STORE/tuning/TASK")
    tune.add_argument("--models", type=int, default=100, metavar="N", help="default: 100")

    add_store(tune)
    add_seed(tune)
    add_device(tune)
    add_engine(tune)


def run(args: argparse.Namespace) -> int:
    """`klom tune`."""
    with closing(engine_of(args)) as engine:
        return _tuned(args, engine)


def _tuned(args: argparse.Namespace, engine: "Engine") -> int:
    from klom_bench.cell.cell import unfit_for
    from klom_bench.found import methods_from
    from klom_bench.published.forget_sets import stored
    from klom_bench.report.trials import best_line, trial_line
    from klom_bench.store.store import Store
    from klom_bench.tasks.training import not_trained
    from klom_bench.tuning.ranges import range_in, what_is_tuned
    from klom_bench.tuning.tune import tune

    if args.trials < 1 or args.models < 1:
        raise KlomError("--trials and --models must be at least 1")
    store, device = Store(store_of(args), "train", engine=engine), device_of(args, engine)
    task = stored(task_named(args.task), store.root)
    if not task.trains:
        raise KlomError(
            f"tuning has forget sets of its own, whose oracles are trained, and "
            f"{not_trained(task.name)}"
        )
    chosen = what_is_tuned(args.methods, dict(range_in(text) for text in args.range))
    known = methods_from([Path.cwd()])
    folder = args.output or store.root / "tuning" / task.name
    failed = False
    for method, ranges in chosen:
        if reason := unfit_for(method, task):
            sys.stderr.write(f"klom tune: {reason}\n")
            failed |= "all" not in args.methods
            continue
        path = folder / f"{method.name}.json"
        sys.stdout.write(f"{method.name}: {args.trials} trials, to be written to {path}\n")

        def tell(number: int, trial: "Trial", names: Sequence[str] = tuple(ranges)) -> None:
            print(trial_line(number, trial, names), flush=True)

        announce = progress()
        found = tune(
            task,
            method,
            ranges,
            args.trials,
            args.models,
            args.seed,
            store,
            path,
            device,
            announce,
            tell,
        )
        sys.stdout.write(best_line(found, path, known))
        failed |= found.best is None
    return int(failed)
