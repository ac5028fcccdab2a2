"""`klom import`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from klom_bench.cli.common import (
    Commands,
    add_device,
    add_seed,
    add_store,
    device_of,
    progress,
    store_of,
    task_named,
)
from klom_bench.errors import KlomError, visible

if TYPE_CHECKING:
    from klom_bench.files.patterns import Found
    from klom_bench.store.importing import Imported
    from klom_bench.tasks.ensemble_id import EnsembleId
    from klom_bench.tasks.task import Task

EXAMPLES = """examples:
  klom import runs --task tumours --as originals                       # the names are guessed
  klom import runs --task tumours --as originals --dry-run             # and nothing is done
  klom import wiped --task tumours --as oracles --forget-set first_ten
  klom import runs --task tumours --as originals --pattern "run_{member}/epoch_30.pt"

Files are state dicts, as torch.save(model.state_dict(), FILE) and safetensors write them, alone
or as `state_dict`, `model_state_dict` or `model` of a checkpoint; `module.` before their names is
taken off. All are read, checked and copied, or none is. Oracles are held against the originals that
are there. The same command again changes nothing; a folder with more members adds these. What was
trained here and what was imported is never mixed. `klom help checkpoints` tells more."""


def add(commands: Commands) -> None:
    """The command."""
    text = "bring models that were trained elsewhere into the store"
    bring = commands.add("import", run, text, EXAMPLES)
    bring.add_argument("folder", type=Path, metavar="FOLDER", help="holds a file a model")
    bring.add_argument("--task", required=True, metavar="NAME", help="whose models they are")
    bring.add_argument(
        "--as",
        dest="role",
        required=True,
        choices=("originals", "oracles"),
        metavar="ROLE",
        help="originals, trained on all train points, or oracles, trained without a forget set",
    )
    bring.add_argument(
        "--forget-set", metavar="SET", help="what the oracles have not seen, by name or number"
    )
    bring.add_argument(
        "--pattern",
        metavar="PATTERN",
        help="how files are named below FOLDER: {member} is the number of a model, * any "
        "characters (default: as most checkpoints there)",
    )
    bring.add_argument(
        "--dry-run", action="store_true", help="say which file is which member, and do nothing"
    )
    for more in (add_store, add_seed, add_device):
        more(bring)


def run(args: argparse.Namespace) -> int:
    """`klom import`."""
    from klom_bench.files.patterns import find
    from klom_bench.store.import_checks import refuse_gaps, refuse_others
    from klom_bench.store.importing import first_number, import_members
    from klom_bench.store.store import Store

    device, store = device_of(args), Store(store_of(args), "error")
    ensemble = _asked(args, task_named(args.task), store.root)
    found = find(args.folder, args.pattern)
    held = store.held(ensemble)
    refuse_others(held, store.root)
    first = first_number(held, found.files)
    _say_what_is_taken(found, args.folder, first)
    refuse_gaps(held, {number - first: path for number, path in found.files.items()})
    if args.dry_run:
        sys.stdout.write("nothing was imported: --dry-run\n")
        return 0
    done = import_members(store, ensemble, found, device, progress())
    sys.stdout.write(_told(done, ensemble, store.root))
    return 0


def _asked(args: argparse.Namespace, task: "Task", root: Path) -> "EnsembleId":
    """Which ensemble it is to be; KlomError where that is not clear."""
    from klom_bench.published.forget_sets import selected, stored
    from klom_bench.tasks.ensemble_id import EnsembleId

    if args.seed < 0:
        raise KlomError("--seed must not be negative")
    task = stored(task, root)
    if args.role == "originals":
        if args.forget_set:
            raise KlomError(
                "originals have seen all train points, so that --forget-set means nothing: leave "
                "it out, or say --as oracles"
            )
        return EnsembleId(task, "original", args.seed)
    known = tuple(task.forget_sets)
    names = selected([args.forget_set], known) if args.forget_set else []
    if len(names) != 1:
        raise KlomError(
            f"oracles lack one forget set: say which with --forget-set; {task.name} has "
            f"{', '.join(known) or 'none'}"
        )
    return EnsembleId(task, "oracle", args.seed, task.forget_set(names[0]))


def _say_what_is_taken(found: "Found", folder: Path, first: int) -> None:
    """The pattern, and which file becomes which member."""
    from klom_bench.files.patterns import few

    lines = [f"--pattern {found.pattern!r}: {len(found.files)} files"]
    shown = list(found.files.items())
    for number, path in shown if len(shown) < 5 else [*shown[:2], *shown[-1:]]:
        name = visible(path.relative_to(folder).as_posix())
        lines.append(f"  {name} is member {number - first}")
    if found.others:
        lines.append(f"  not taken: {few(found.others)}")
    sys.stdout.write("\n".join(lines) + "\n")


def _told(done: "Imported", ensemble: "EnsembleId", root: Path) -> str:
    """What became of it."""
    lines = []
    if done.there:
        lines.append(f"{len(done.there)} were there already, from the same weights")
    if done.new:
        right = ", ".join(f"{split} {value:.3f}" for split, value in done.accuracy.items())
        right = f"; right on {right} of the points" * (right.count("nan") == 0)
        lines.append(f"{len(done.new)} members of the {ensemble.label} were imported{right}")
    if done.sanity:
        s = done.sanity
        lines.append(
            f"beside the originals they are less sure of {ensemble.forget_set.name} by "  # type: ignore[union-attr]
            f"{s.shift:.3g} nats ({s.sigmas:.1f} standard errors)"
        )
    lines += [*done.notes, f"{len(done.new) + len(done.there)} members are in {root}"]
    return "\n".join(lines) + "\n"
