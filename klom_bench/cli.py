"""`klom`: score margins from anywhere; keep ensembles in a store; tune methods."""

import argparse
import io
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klom_bench import __version__
from klom_bench.errors import KlomError, unknown, visible_lines
from klom_bench.folders import cache_folder, expanded
from klom_bench.interrupt import as_interrupt
from klom_bench.progress import Announce, Tick, announcing

if TYPE_CHECKING:
    import torch

    from klom_bench.store.layout import EnsembleId
    from klom_bench.tasks.task import Task
    from klom_bench.tuning.tune import Trial

EPILOG = """exit codes: 0 done; 1 it could not be done, or verify found a problem; 2 unknown option;
130 interrupted (what was finished is kept)

The store is --store, else $KLOM_STORE, else your cache folder; $KLOM_DATA holds data sets.
Results go to standard output, all else to standard error.
"""

EXAMPLES = {
    "score": """examples:
  klom score oracles.npy unlearned.npy
  klom score oracle_models/CIFAR10/only_margins/forget_set_3 my_margins/ \\
      --forget-indices forget_set_indices/CIFAR10/forget_set_3.npy --json

ORACLE and UNLEARNED are .npy or .pt files [models, points], a .npz with arrays train, val, retain
or forget, or folders with a file a model (3__train_margins_23.npy, id_3_epoch_23.npy, 3.npy), files
of all models (val_margins_all.pt), or subfolders named after the parts.""",
    "list": """examples:
  klom list
  klom list --store KLOM-models --json""",
    "verify": """examples:
  klom verify
  klom verify --store KLOM-models --device cuda

Reads every file (by its checksum where there is one), and holds the oracles against the originals:
oracles that do not lack their forget set are a problem, and the exit code is 1.""",
    "download": """examples:
  klom download oracles/CIFAR10/forget_set_3              # a folder, as it is in the repository
  klom download cifar10 --forget-set 3 --models 100       # only the files that are needed
  klom download cifar10 --data                            # the data set itself

Files are checked; the same command goes on where it stopped. HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE hold. $KLOM_REPO (OWNER/NAME or OWNER/NAME@REVISION) stands in for --repo.""",
    "train": """examples:
  klom train digits --forget-set 1-3 --models 100
  klom train cifar10 --forget-set 3 --device cuda --shard 2/8     # the third of 8 array jobs

Any number of these may work on one store at a time; a shard is for machines that cannot lock
files together.""",
    "tune": """examples:
  klom tune ga scrub --trials 30
  klom tune all
  klom tune my_methods.py:unlearn --range lr=1e-4..1 --range epochs=1..10 --range mode=a|b
  pytest --klom-method=ga --klom-tuned=FILE            # FILE is named at the end

Each trial unlearns three forget sets that share no point with those that are gated, from models and
against oracles of another seed. Every method gets as many trials; every trial is written to the
file as it ends, and the same command goes on where it stopped.""",
    "report": """examples:
  pytest --klom-method=all --benchmark-json=all.json; klom report all.json

Each cell is the P95 of KLOM on the forget / retain / val points; the cost is counted: training
examples a member saw over those of a retraining, in the mean over the sets.""",
    "remove": """examples:
  klom remove digits --forget-set 3          # its oracles
  klom remove digits --originals --seed 1
  klom remove my_task --yes                  # all that was trained for it, without asking

Only what was trained here, and what --klom-stale=retrain moved aside; published ensembles stay.""",
    "export": """examples:
  klom export published digits --forget-set 3
  klom export published cifar10 --forget-set 1-9 --layout easydub --models 100""",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Greek letters, in a terminal without them
    parser = build_parser()
    args = parser.parse_args(arguments)

    def say(text: str) -> None:
        sys.stderr.write(f"klom {args.command}: {visible_lines(text)}\n")

    try:
        with warnings.catch_warnings(), as_interrupt() as ended:
            warnings.showwarning = lambda message, *_, **__: say(str(message))
            return int(args.run(args))
    except KlomError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        say("interrupted; what was finished is kept")
        return 128 + ended.signal
    except BrokenPipeError:  # as of `klom list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(f"{where}{error.strerror or error}")
        return 1


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="klom",
        description="Does an unlearning method really forget? Scores, ensembles and their store.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"klom-bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> Any:
        found = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"{EXAMPLES[name]}\n\n{EPILOG}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        found.set_defaults(run=run)
        return found

    score = command("score", run_score, "KLOM of margins in files, computed in any framework")
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
    score.add_argument("--estimator", default="default", help="as --klom-estimator (default: ours)")

    listing = command("list", run_list, "tasks, forget sets, methods, and what the store holds")
    verify = command("verify", run_verify, "read the whole store; see that oracles lack their set")
    train = command("train", run_train, "train ensembles into the store")
    train.add_argument("task", metavar="TASK")
    train.add_argument(
        "--shard", default="0/1", metavar="I/N", help="every N-th pack only, from the I-th (0..N-1)"
    )
    train.add_argument(
        "--stale", choices=("error", "retrain"), default="error", help="as --klom-stale"
    )
    remove = command("remove", run_remove, "remove ensembles that were trained here")
    remove.add_argument("task", metavar="TASK")
    remove.add_argument("--seed", type=int, help="of this seed only (default: of all)")
    for name, kind in (("originals", "full_models"), ("halves", "random_halves")):
        remove.add_argument(
            f"--{name}", dest="kind", action="store_const", const=kind, help=f"the {name} only"
        )
    remove.add_argument("--yes", action="store_true", help="do not ask")
    export = command("export", run_export, "write ensembles in a published layout")
    export.add_argument("target", type=Path, metavar="FOLDER")
    export.add_argument("task", metavar="TASK")
    export.add_argument(
        "--layout", choices=("card", "easydub"), default="card", help="default: card"
    )
    download = command("download", run_download, "get published ensembles, or a data set")
    download.add_argument(
        "what", nargs="+", metavar="WHAT", help="a task, or folders or files of the repository"
    )
    download.add_argument("--data", action="store_true", help="the data set of the task")
    download.add_argument("--repo", metavar="OWNER/NAME", help="a dataset repository of the hub")
    download.add_argument("--revision", metavar="REVISION", help="branch, tag or commit")

    tune = command("tune", run_tune, "choose hyperparameters of methods, away from what is gated")
    tune.add_argument(
        "methods", nargs="+", metavar="METHOD", help="a built-in method, all, or FILE.py:FUNCTION"
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

    report = command(
        "report", run_report, "methods by forget sets in Markdown, from benchmark JSONs"
    )
    report.add_argument("files", nargs="+", type=Path, metavar="FILE", help="of --benchmark-json")

    for sub in (listing, verify, train, remove, export, download, tune):
        sub.add_argument("--store", type=Path, metavar="FOLDER", help="folder of ensembles")
    for sub in (score, listing, verify):
        sub.add_argument("--json", action="store_true", help="one JSON object")
    for sub in (train, remove, export, download):
        sub.add_argument(
            "--forget-set",
            action="append",
            metavar="SETS",
            help="by name, number or range: forget_set_3, 3, 1-3; repeatable (default: all; "
            "of export: those that are there)",
        )
    for sub in (train, export, download):
        sub.add_argument("--models", type=int, default=100, metavar="N", help="default: 100")
        sub.add_argument("--oracles", type=int, metavar="N", help="default: as --models")
    for sub in (train, export, tune):
        sub.add_argument("--seed", type=int, default=0, help="default: 0")
    for sub in (train, export, verify, tune):
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
    return parser


def run_score(args: argparse.Namespace) -> int:
    """`klom score`."""
    from klom_bench.metrics.estimators import estimator_named
    from klom_bench.score import score
    from klom_bench.store.array_files import read_array
    from klom_bench.store.margin_files import read_margins

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


def run_list(args: argparse.Namespace) -> int:
    """`klom list`."""
    from klom_bench.report.listing import as_json, as_text
    from klom_bench.store.survey import survey
    from klom_bench.tasks import BUILT_IN

    root = store_folder(args)
    holdings = survey(root, BUILT_IN)
    if args.json:
        return put_json(as_json(BUILT_IN, root, holdings))
    sys.stdout.write(as_text(BUILT_IN, root, holdings))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`klom verify`."""
    from klom_bench.report.verification import as_json, as_text
    from klom_bench.store.verify import verify
    from klom_bench.tasks import BUILT_IN
    from klom_bench.tuning.sets import with_tuning_sets

    root = store_folder(args)
    if not root.is_dir():
        raise KlomError(f"there is no store {root}")
    more = {name: with_tuning_sets(task) for name, task in BUILT_IN.items()}
    found = verify(root, BUILT_IN, device_named(args.device), told(), more)
    if args.json:
        put_json(as_json(root, found))
    else:
        sys.stdout.write(as_text(root, found))
    return 1 if any(checked.problems for checked in found) else 0


def run_train(args: argparse.Namespace) -> int:
    """`klom train`."""
    from klom_bench.store.store import Store

    index, count = shard_of(args.shard)
    store = Store(store_folder(args), "train", args.stale)
    store.root.mkdir(parents=True, exist_ok=True)
    wanted = ensembles(args, task_named(args.task), store.root)
    store.complete_all(wanted, device_named(args.device), told(), (index, count))
    there = sum(n - store.held(e).lacks(n) for e, n in wanted)
    sys.stdout.write(f"{there} of {sum(n for _, n in wanted)} members are in {store.root}\n")
    return 0


def run_remove(args: argparse.Namespace) -> int:
    """`klom remove`."""
    from klom_bench.report.listing import removal
    from klom_bench.store.forget_sets import selected
    from klom_bench.store.remove import chosen, remove
    from klom_bench.store.survey import survey

    root = store_folder(args)
    ours = [holding for holding in survey(root, {}) if holding.ours]
    sets: list[str] = []
    if args.forget_set:
        known = [h.forget_set for h in ours if h.task == args.task and h.forget_set]
        damaged = [Path(h.folder).name for h in ours if h.task == "?"]
        sets = selected(args.forget_set, tuple(dict.fromkeys([*known, *damaged])))
    mine = chosen(ours, args.task, sets, args.seed, args.kind)
    if not mine:
        raise KlomError(f"nothing of {args.task} that was trained here is in {root}: `klom list`")
    sys.stdout.write(removal(root, mine))
    if not args.yes:
        if not sys.stdin.isatty():
            raise KlomError("nothing was removed: say --yes")
        try:
            answer = input("remove all of these? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise KlomError("nothing was removed")
    remove(root, mine)
    sys.stdout.write("removed\n")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """`klom export`."""
    from klom_bench.store.export import export
    from klom_bench.store.store import Store

    store = Store(store_folder(args), "error")
    wanted = ensembles(args, task_named(args.task), store.root)
    if not args.forget_set:
        wanted = [(e, n) for e, n in wanted if store.held(e).members]
        if not wanted:
            raise KlomError(f"the store {store.root} holds nothing of {args.task}: see `klom list`")
    device = device_named(args.device)
    written = export(store, args.target, args.layout, wanted, device, told())
    sys.stdout.write(f"{written} files written to {args.target}\n")
    return 0


def run_tune(args: argparse.Namespace) -> int:
    """`klom tune`."""
    from klom_bench.methods import BUILT_IN
    from klom_bench.methods.named import method_named
    from klom_bench.record import unfit_for
    from klom_bench.report.trials import best_line, trial_line
    from klom_bench.store.forget_sets import stored
    from klom_bench.store.store import Store
    from klom_bench.tuning.ranges import OWN, USUAL, range_in, ranges_of
    from klom_bench.tuning.tune import tune

    if args.trials < 1 or args.models < 1:
        raise KlomError("--trials and --models must be at least 1")
    store, device = Store(store_folder(args), "train"), device_named(args.device)
    task = stored(task_named(args.task), store.root)
    given = dict(range_in(text) for text in args.range)
    every = [n for n in BUILT_IN if n in OWN or {*USUAL} & {*method_named(n).hyperparameters}]
    named = (every if name == "all" else [name] for name in args.methods)
    names = dict.fromkeys(name for group in named for name in group)
    methods = [method_named(name) for name in names]
    for name in given:
        if not any(name in method.hyperparameters for method in methods):
            ranges_of(methods[0], given)  # says what it has
    chosen = []
    for method in methods:
        mine = {name: r for name, r in given.items() if name in method.hyperparameters}
        chosen.append((method, ranges_of(method, mine)))
    folder = args.output or store.root / "tuning" / task.name
    failed = False
    for method, ranges in chosen:
        if reason := unfit_for(method, task):
            sys.stderr.write(f"klom tune: {reason}\n")
            failed |= "all" not in args.methods
            continue
        path = folder / f"{method.name}.json"
        sys.stdout.write(f"{method.name}: {args.trials} trials, written to {path}\n")

        def tell(number: int, trial: "Trial", names: Sequence[str] = tuple(ranges)) -> None:
            print(trial_line(number, trial, names), flush=True)

        announce = told()
        found = tune(
            task, method, ranges, args.trials, args.models, args.seed, store, path, device,
            announce, tell,
        )  # fmt: skip
        sys.stdout.write(best_line(found, path))
        failed |= found.best is None
    return int(failed)


def run_report(args: argparse.Namespace) -> int:
    """`klom report`."""
    from klom_bench.report.matrix import matrix, records_in

    sys.stdout.write(matrix(records_in(args.files)))
    return 0


def run_download(args: argparse.Namespace) -> int:
    """`klom download`."""
    from klom_bench.store.hub import Hub
    from klom_bench.tasks import BUILT_IN

    root, default = store_folder(args), Hub.default()
    hub = Hub(args.repo or default.repo, args.revision or (None if args.repo else default.revision))
    if args.data:
        for name in args.what:
            task = task_named(name)
            if task.download is None:
                raise KlomError(f"{name} has nothing to download: see `klom list`")
            task.download()
        return 0
    tasks = [name for name in args.what if name in BUILT_IN]
    if tasks and len(args.what) > 1:
        raise KlomError("name one task, or folders of the repository")
    announce = told()
    if not tasks:
        for path in args.what:
            hub.get(hub.below(path.strip("/")), root, announce, f"downloading {path}")
    else:
        task = task_named(tasks[0])
        if not task.published:
            raise KlomError(f"{task.name} is not published: `klom train {task.name}` trains it")
        for ensemble, count in ensembles(args, task, root, hub):
            hub.fetch(root, ensemble, count, announce)
    sys.stdout.write(f"all of it is in {root}\n")
    return 0


def ensembles(
    args: argparse.Namespace, task: "Task", root: Path, hub: Any = None
) -> list[tuple["EnsembleId", int]]:
    """What is asked for: originals, and the oracles of the chosen forget sets."""
    from klom_bench.store.forget_sets import selected, stored
    from klom_bench.store.layout import EnsembleId

    for name in ("models", "oracles"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise KlomError(f"--{name} must be at least 1")
    seed = getattr(args, "seed", 0)
    if seed < 0:
        raise KlomError("--seed must not be negative")
    task = stored(task, root, hub)
    names = selected(args.forget_set or (), tuple(task.forget_sets))
    oracles = args.oracles or args.models
    return [(EnsembleId(task, "original", seed), args.models)] + [
        (EnsembleId(task, "oracle", seed, task.forget_set(name)), oracles) for name in names
    ]


def task_named(name: str) -> "Task":
    """A built-in task."""
    from klom_bench.tasks import BUILT_IN

    if name not in BUILT_IN:
        raise KlomError(unknown("task", name, BUILT_IN))
    return BUILT_IN[name]


def device_named(name: str) -> "torch.device":
    """The device; KlomError where it is not there."""
    from klom_bench.ensemble.device import device_named

    return device_named(name)


def shard_of(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise KlomError(f"--shard must be I/N with I from 0 to N - 1, as 2/8; got {text!r}")
    return int(index), int(count)


def store_folder(args: argparse.Namespace) -> Path:
    """--store, else $KLOM_STORE, else the user's cache folder."""
    if args.store:
        return expanded(args.store, "--store")
    if variable := os.environ.get("KLOM_STORE"):
        return expanded(variable, "$KLOM_STORE")
    return cache_folder("name a store with --store or $KLOM_STORE")


def put_json(content: Any) -> int:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return 0


def told() -> Announce:
    """Progress on standard error: a line that changes on a terminal, else one when work begins."""
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":

        def show(text: str) -> None:
            sys.stderr.write(f"\r{text}\033[K")
            sys.stderr.flush()

        return announcing(show)

    @contextmanager
    def once(label: str, count: int) -> Iterator[Tick]:
        sys.stderr.write(f"{label}: {count}\n")
        yield lambda amount: None

    return once


if __name__ == "__main__":
    raise SystemExit(main())
