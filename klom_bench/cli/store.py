"""What works on a store: list, verify, remove, export, download."""

import argparse
import sys
from pathlib import Path

from klom_bench.cli.common import (
    Commands,
    add_device,
    add_forget_set,
    add_json,
    add_models,
    add_seed,
    add_store,
    device_of,
    ensembles,
    known_tasks,
    progress,
    put_json,
    store_of,
    task_named,
)
from klom_bench.errors import KlomError, visible

LIST_EXAMPLES = """examples:
  klom list
  klom list --methods
  klom list --store KLOM-models --json"""

VERIFY_EXAMPLES = """examples:
  klom verify
  klom verify --store KLOM-models --device cuda

Reads every file (by its checksum where there is one), and holds the oracles against the originals:
oracles that do not lack their forget set are a problem, and the exit code is 1."""

REMOVE_EXAMPLES = """examples:
  klom remove digits --forget-set 3          # its oracles
  klom remove digits --originals --seed 1
  klom remove my_task --yes                  # all that was trained for it, without asking

Only what was trained here, and what --klom-stale=retrain moved aside; published ensembles stay."""

MERGE_EXAMPLES = """examples:
  klom merge node1 node2 node3 --store all
  klom merge /scratch/job_*/store            # into the usual store

For machines without a file system in common. All are compared before anything is copied; a member
that lies in two of them must be the same one. Copying with rsync does the same, but for that."""

EXPORT_EXAMPLES = """examples:
  klom export published digits --forget-set 3
  klom export published cifar10 --forget-set 1-9 --layout easydub --models 100"""

DOWNLOAD_EXAMPLES = """examples:
  klom download oracles/CIFAR10/forget_set_3              # a folder, as it is in the repository
  klom download cifar10 --forget-set 3 --models 100       # only the files that are needed
  klom download cifar10 --data                            # the data set itself

Files are verified; the same command goes on where it stopped. HF_ENDPOINT, HF_TOKEN and
HF_HUB_OFFLINE hold. $KLOM_REPO (OWNER/NAME or OWNER/NAME@REVISION) stands in for --repo."""


def add(commands: Commands) -> None:
    """The commands."""
    text = "tasks, forget sets, methods, and what the store holds"
    listing = commands.add("list", run_list, text, LIST_EXAMPLES)
    listing.add_argument(
        "--methods", action="store_true", help="what each method sees, needs and costs; its code"
    )
    add_store(listing)
    add_json(listing)

    text = "read the whole store; see that oracles lack their set"
    verify = commands.add("verify", run_verify, text, VERIFY_EXAMPLES)
    add_store(verify)
    add_json(verify)
    add_device(verify)

    text = "remove ensembles that were trained here"
    remove = commands.add("remove", run_remove, text, REMOVE_EXAMPLES)
    remove.add_argument("task", metavar="TASK")
    remove.add_argument("--seed", type=int, help="of this seed only (default: of all)")
    for name, kind in (("originals", "full_models"), ("halves", "random_halves")):
        remove.add_argument(
            f"--{name}", dest="kind", action="store_const", const=kind, help=f"the {name} only"
        )
    remove.add_argument("--yes", action="store_true", help="do not ask")
    add_store(remove)
    add_forget_set(remove)

    text = "join stores that were trained apart"
    merging = commands.add("merge", run_merge, text, MERGE_EXAMPLES)
    merging.add_argument("stores", nargs="+", type=Path, metavar="STORE", help="is only read")
    add_store(merging)

    text = "write ensembles in a published layout"
    export = commands.add("export", run_export, text, EXPORT_EXAMPLES)
    export.add_argument("target", type=Path, metavar="FOLDER")
    export.add_argument("task", metavar="TASK")
    export.add_argument(
        "--layout", choices=("card", "easydub"), default="card", help="default: card"
    )
    for more in (add_store, add_forget_set, add_models, add_seed, add_device):
        more(export)

    text = "get published ensembles, or a data set"
    download = commands.add("download", run_download, text, DOWNLOAD_EXAMPLES)
    download.add_argument(
        "what", nargs="+", metavar="WHAT", help="a task, or folders or files of the repository"
    )
    download.add_argument("--data", action="store_true", help="the data set of the task")
    download.add_argument("--repo", metavar="OWNER/NAME", help="a dataset repository of the hub")
    download.add_argument("--revision", metavar="REVISION", help="branch, tag or commit")
    for more in (add_store, add_forget_set, add_models):
        more(download)


def run_list(args: argparse.Namespace) -> int:
    """`klom list`."""
    from klom_bench.found import loaded, methods_from
    from klom_bench.report.listing import as_json, as_text, of_methods
    from klom_bench.store.survey import survey

    methods = loaded(methods_from([Path.cwd()]))
    if args.methods and not args.json:
        sys.stdout.write(of_methods(methods))
        return 0
    root, tasks = store_of(args), loaded(known_tasks())
    holdings = survey(root, tasks)
    if args.json:
        return put_json(as_json(tasks, methods, root, holdings))
    sys.stdout.write(as_text(tasks, methods, root, holdings))
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """`klom verify`."""
    from klom_bench.found import loaded
    from klom_bench.report.verification import as_json, as_text
    from klom_bench.store.verify import verify
    from klom_bench.tuning.sets import with_tuning_sets

    root = store_of(args)
    if not root.is_dir():
        raise KlomError(f"there is no store {root}")
    tasks = loaded(known_tasks())
    more = {name: with_tuning_sets(task) for name, task in tasks.items()}
    found = verify(root, tasks, device_of(args), progress(), more)
    if args.json:
        put_json(as_json(root, found))
    else:
        sys.stdout.write(as_text(root, found))
    return 1 if any(verified.problems for verified in found) else 0


def run_remove(args: argparse.Namespace) -> int:
    """`klom remove`."""
    from klom_bench.published.forget_sets import selected
    from klom_bench.report.listing import removal
    from klom_bench.store.remove import chosen, remove
    from klom_bench.store.survey import survey

    root = store_of(args)
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


def run_merge(args: argparse.Namespace) -> int:
    """`klom merge`."""
    from klom_bench.store.merge import merge

    root = store_of(args)
    added = merge(args.stores, root, progress())
    for place, count in added.items():
        sys.stdout.write(f"{visible(place)}: {count} more\n")
    sys.stdout.write(f"{sum(added.values())} members were added to {root}\n")
    return 0


def run_export(args: argparse.Namespace) -> int:
    """`klom export`."""
    from klom_bench.store.export import export
    from klom_bench.store.store import Store

    store = Store(store_of(args), "error")
    wanted = ensembles(args, task_named(args.task), store.root)
    if not args.forget_set:
        wanted = [(e, n) for e, n in wanted if store.held(e).members]
        if not wanted:
            raise KlomError(f"the store {store.root} holds nothing of {args.task}: see `klom list`")
    device = device_of(args)
    written = export(store, args.target, args.layout, wanted, device, progress())
    sys.stdout.write(f"{written} files written to {args.target}\n")
    return 0


def run_download(args: argparse.Namespace) -> int:
    """`klom download`."""
    from klom_bench.published.hub import Hub

    root, default = store_of(args), Hub.default()
    hub = Hub(args.repo or default.repo, args.revision or (None if args.repo else default.revision))
    if args.data:
        for name in args.what:
            task = task_named(name)
            if task.download is None:
                raise KlomError(f"{name} has nothing to download: see `klom list`")
            task.download()
        return 0
    known = known_tasks()
    tasks = [name for name in args.what if name in known]
    if tasks and len(args.what) > 1:
        raise KlomError("name one task, or folders of the repository")
    announce = progress()
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
