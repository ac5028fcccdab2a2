"""What commands have in common."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from klom_bench.errors import KlomError, unknown
from klom_bench.folders import store_root
from klom_bench.progress import ERASE as ERASE
from klom_bench.progress import on_terminal as on_terminal
from klom_bench.progress import progress as progress

if TYPE_CHECKING:
    import torch

    from klom_bench.engine import Engine
    from klom_bench.found import Tasks
    from klom_bench.tasks.ensemble_id import EnsembleId
    from klom_bench.tasks.task import Task

EPILOG = """exit codes: 0 done; 1 it could not be done, or verify found a problem; 2 unknown option;
130 interrupted (what was finished is kept). Of score: 1 a limit is exceeded, or cannot be told from
the number; 2 bad input, too

The store is --store, else $KLOM_STORE, else your cache folder; $KLOM_DATA holds data sets.
Results go to standard output, all else to standard error. `klom help` lists pages to read.
"""

Run = Callable[[argparse.Namespace], int]


class Commands:
    """The commands of `klom`, to which each file adds its own."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    @property
    def by_name(self) -> Mapping[str, argparse.ArgumentParser]:
        """The parser of each command."""
        return self._parsers.choices

    def add(self, name: str, run: Run, text: str, examples: str) -> argparse.ArgumentParser:
        """The parser of a new command."""
        found = self._parsers.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"{examples}\n\n{EPILOG}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        found.set_defaults(run=run)
        return found


def add_store(parser: argparse.ArgumentParser) -> None:
    """--store."""
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="folder of ensembles")


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def add_forget_set(parser: argparse.ArgumentParser) -> None:
    """--forget-set."""
    parser.add_argument(
        "--forget-set",
        action="append",
        metavar="SETS",
        help="by name, number or range: forget_set_3, 3, 1-3; repeatable (default: all; "
        "of export: those that are there)",
    )


def add_models(parser: argparse.ArgumentParser) -> None:
    """--models and --oracles."""
    parser.add_argument("--models", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--oracles", type=int, metavar="N", help="default: as --models")


def add_seed(parser: argparse.ArgumentParser) -> None:
    """--seed."""
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def add_engine(parser: argparse.ArgumentParser) -> None:
    """--engine and --gpu-share."""
    parser.add_argument("--engine", default="threads", help="as --klom-engine: threads, ray")
    parser.add_argument("--gpu-share", type=float, metavar="SHARE", help="as --klom-gpu-share")


def engine_of(args: argparse.Namespace) -> "Engine":
    """--engine; KlomError where it cannot be."""
    from klom_bench.engine import engine_named

    return engine_named(args.engine, args.gpu_share, args.device)


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")


def ensembles(
    args: argparse.Namespace, task: "Task", root: Path, hub: Any = None, least: int = 1
) -> list[tuple["EnsembleId", int]]:
    """What is asked for: originals, oracles of the chosen forget sets, models on random halves.

    KlomError for less than `least` of any.
    """
    from klom_bench.published.forget_sets import selected, stored
    from klom_bench.tasks.ensemble_id import EnsembleId

    for name in ("models", "oracles", "subsets"):
        if (given := getattr(args, name, None)) is not None and given < least:
            raise KlomError(f"--{name} must be at least {least}")
    seed = getattr(args, "seed", 0)
    if seed < 0:
        raise KlomError("--seed must not be negative")
    task = stored(task, root, hub)
    names = selected(args.forget_set or (), tuple(task.forget_sets))
    oracles = args.models if args.oracles is None else args.oracles
    sets = [task.forget_set(name) for name in names if oracles]  # some are not in every store
    every = [
        (EnsembleId(task, "original", seed), args.models),
        *((EnsembleId(task, "oracle", seed, one), oracles) for one in sets),
        (EnsembleId(task, "subset", seed), getattr(args, "subsets", 0)),
    ]
    return [(ensemble, n) for ensemble, n in every if n]


def known_tasks() -> "Tasks":
    """Tasks by name, as seen from the current folder."""
    from klom_bench.found import tasks_from

    return tasks_from([Path.cwd()])


def task_named(name: str) -> "Task":
    """The task of this name; KlomError where there is none."""
    known = known_tasks()
    if name not in known:
        raise KlomError(
            f"{unknown('task', name, known)} (and what [tool.klom] names: `klom help task`)"
        )
    return known[name]()


def device_of(args: argparse.Namespace, engine: "Engine | None" = None) -> "torch.device":
    """--device, for what this process computes; KlomError where it is not there."""
    from klom_bench.engine import HERE, device_here

    return device_here(args.device, engine or HERE)


def store_of(args: argparse.Namespace) -> Path:
    """--store, else where the store usually lies."""
    return store_root(args.store, "--store")


def put_json(content: Any) -> int:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(content, indent=1, allow_nan=False) + "\n")
    return 0


def put_file(path: Path, content: bytes) -> None:
    """Write a whole file; a link stays one. KlomError where it cannot be written."""
    from klom_bench.files.atomic import write_whole

    try:
        write_whole(path.resolve(), content)
    except OSError as error:
        raise KlomError(f"{path} cannot be written ({error.strerror})") from error


def what_failed(error: KlomError | OSError) -> str:
    """The message of an error, in words for users."""
    if isinstance(error, KlomError):
        return str(error)
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"
