"""`klom train`."""

import argparse
import sys
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from klom_bench.cli.common import (
    Commands,
    add_device,
    add_engine,
    add_forget_set,
    add_seed,
    add_store,
    device_of,
    engine_of,
    ensembles,
    progress,
    store_of,
    task_named,
)
from klom_bench.errors import KlomError

if TYPE_CHECKING:
    from klom_bench.store.advice import Wanted
    from klom_bench.store.store import Store

EXAMPLES = """examples:
  klom train digits --forget-set 1-3 --models 100
  klom train cifar10 living17 -n auto                     # on 8 GPUs: 8 processes, one on each
  klom train cifar10 -n auto --shard 2/8                  # the third of 8 array jobs
  klom train cifar10 --engine ray --gpu-share 0.5         # on a cluster (klom help cluster)
  klom train digits --models 0 --subsets 2000             # models on random halves only

Any number of these may work on one store at a time, and each trains what no other has begun; a
shard is for machines without a file system in common: `klom merge` joins their stores."""


def add(commands: Commands) -> None:
    """The command."""
    text = "train ensembles into the store"
    train = commands.add("train", run, text, EXAMPLES)
    train.add_argument(
        "tasks", nargs="+", metavar="TASK", help="one or several: the options hold for each"
    )
    train.add_argument(
        "--models", type=int, default=100, metavar="N", help="originals (default: 100; 0 for none)"
    )
    train.add_argument(
        "--oracles", type=int, metavar="N", help="of each forget set (default: as --models)"
    )
    train.add_argument(
        "--subsets",
        type=int,
        default=0,
        metavar="N",
        help="models on random halves of the train points, as datamodels need (default: 0)",
    )
    train.add_argument(
        "-n",
        dest="processes",
        default="1",
        metavar="N|auto",
        help="processes that share the work; auto: one a GPU, without GPUs one a physical core "
        "(default: 1, which uses one GPU, or all cores)",
    )
    train.add_argument(
        "--shard",
        default="0/1",
        metavar="I/N",
        help="every N-th pack only, from the I-th (0..N-1); with -n, its processes share these",
    )
    train.add_argument(
        "--stale", choices=("error", "retrain"), default="error", help="as --klom-stale"
    )
    for more in (add_store, add_forget_set, add_seed, add_device, add_engine):
        more(train)


def run(args: argparse.Namespace) -> int:
    """`klom train`."""
    from klom_bench.cli.workers import train_in_processes

    engine = engine_of(args)
    device, shard = device_of(args, engine), shard_of(args.shard)
    processes = process_count(args.processes, args.device)
    if not engine.here and args.processes != "1":
        raise KlomError(
            "-n shares the work among processes of this machine, and --engine ray among those of a "
            "cluster: choose one of the two"
        )
    store, wanted = asked(args)
    store.root.mkdir(parents=True, exist_ok=True)
    finished = True
    processes = min(processes, max_processes(store, wanted, shard[1]))
    if processes > 1:
        finished = train_in_processes(processes, args, progress())
        held = [store.held(ensemble) for ensemble, _ in wanted]
    else:
        with closing(engine):
            held = replace(store, engine=engine).complete(wanted, device, progress(), shard)
    total = sum(n for _, n in wanted)
    there = total - sum(one.lacks(n) for one, (_, n) in zip(held, wanted, strict=True))
    if not finished:
        raise KlomError(
            f"no process is left: {total - there} of {total} members are missing from "
            f"{store.root}; the same command goes on"
        )
    sys.stdout.write(f"{there} of {total} members are in {store.root}\n")
    return 0


def asked(args: argparse.Namespace) -> tuple["Store", "Wanted"]:
    """The store, and what is to be in it; KlomError where nothing is."""
    from klom_bench.store.store import Store
    from klom_bench.tasks.training import not_trained

    store = Store(store_of(args), "train", args.stale)
    wanted = []
    for task in [task_named(name) for name in dict.fromkeys(args.tasks)]:
        if not task.trains:
            raise KlomError(f"{not_trained(task.name)}: `klom import` brings them")
        try:
            wanted += ensembles(args, task, store.root, least=0)
        except KlomError as error:
            raise KlomError(f"{task.name}: {error}" if args.tasks[1:] else str(error)) from error
    if not wanted:
        raise KlomError("nothing is to be trained: --models, --oracles and --subsets are all 0")
    return store, wanted


def max_processes(store: "Store", wanted: "Wanted", shards: int) -> int:
    """How many have something to do: one for each pack of ensembles that lack members."""
    from klom_bench.tasks.ensemble_id import packs

    lacking = 0
    for ensemble, n in wanted:
        try:
            lacks = store.held(ensemble).lacks(n)
        except KlomError:  # the processes say it, or put it right: --stale=retrain
            lacks = n
        lacking += len(packs(range(n), ensemble.task.pack)) if lacks else 0
    return -(-lacking // shards)


def process_count(text: str, device: str) -> int:
    """The number that -n asks for."""
    from klom_bench.ensemble.processes import auto_count

    if text == "auto":
        return auto_count(device)
    if not (text.isdecimal() and int(text)):
        raise KlomError(f"-n must be a number of processes from 1, or auto; got {text!r}")
    return int(text)


def shard_of(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise KlomError(f"--shard must be I/N with I from 0 to N - 1, as 2/8; got {text!r}")
    return int(index), int(count)
