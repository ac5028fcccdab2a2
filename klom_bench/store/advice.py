"""What to do about an ensemble that is missing, stale, or will not repeat, in words."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from klom_bench.store.held import Held
from klom_bench.store.manifest import how_to_remove
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task
from klom_bench.tasks.training import not_trained

Wanted = Sequence[tuple[EnsembleId, int]]
"""Ensembles, and how many members of each."""
SHOWN = 3


def download_command(wanted: Wanted) -> str:
    """The command that gets ensembles of one task."""
    task = wanted[0][0].task.name
    sets = ",".join(e.forget_set.name for e, _ in wanted if e.forget_set is not None)
    which = f" --forget-set {sets}" if sets else ""
    return f"klom download {task}{which} --models {max(n for _, n in wanted)}"


def how_to_get(wanted: Wanted) -> str:
    """What to do about members that are missing, as a clause."""
    first = wanted[0][0]
    if first.task.published and not first.seed and not first.is_half:
        return (
            f"`{download_command(wanted)}` gets the published ones, "
            "--klom-missing=train trains them (long without a GPU), or name the store that holds "
            "them with --klom-store"
        )
    return "run once with --klom-missing=train, or name the store that holds them with --klom-store"


def import_command(ensemble: EnsembleId, root: Path) -> str:
    """The command that brings an ensemble from elsewhere."""
    words = ["klom", "import", "FOLDER", "--task", ensemble.task.name, "--as", f"{ensemble.role}s"]
    if ensemble.forget_set is not None:
        words += ["--forget-set", ensemble.forget_set.name]
    words += ["--seed", str(ensemble.seed)] * bool(ensemble.seed)
    return shlex.join([*words, "--store", str(root)])


def to_bring(wanted: Iterable[tuple[Held, int]]) -> list[tuple[Held, int]]:
    """Those that lack members which are never trained here, of ensembles and members wanted."""
    return [
        (held, members)
        for held, members in wanted
        if held.lacks(members) and not (held.ensemble.task.trains and held.trained_here)
    ]


def how_to_bring(root: Path, wanted: Sequence[tuple[Held, int]]) -> list[str]:
    """What lacks of ensembles that are never trained, and how to bring it: a clause each."""
    lines = []
    for held, count in wanted:
        ensemble, have = held.ensemble, count - held.lacks(count)
        there = f"{count - have} of {count} {ensemble.label} are not in the store {root}"
        if ensemble.is_half:
            lines.append(f"{there}, and {not_trained(ensemble.task.name)}")
        elif have:
            lines.append(
                f"{there}, and those that are were imported, so that none are trained beside them: "
                f"`{import_command(ensemble, root)}` brings more, or ask for {have} "
                f"(--klom-models={have})"
            )
        else:
            lines.append(
                f"{there}, and {not_trained(ensemble.task.name)}: "
                f"`{import_command(ensemble, root)}` brings them"
            )
    more = [f"and {len(lines) - SHOWN} more ensembles"] * (len(lines) > SHOWN)
    return [*lines[:SHOWN], *more]


def what_to_do(ensemble: EnsembleId, folder: Path, imported: bool) -> str:
    """About a stale ensemble."""
    if imported or not ensemble.task.trains:
        return (
            f"It is left as it is: {how_to_remove(ensemble, folder)}, and it can be imported anew; "
            "or choose another --klom-store (or --klom-seed)"
        )
    return (
        f"It is left as it is: --klom-stale=retrain moves it aside and trains anew, "
        f"{how_to_remove(ensemble, folder)}; or choose another --klom-store (or --klom-seed)"
    )


def not_repeatable(task: Task) -> str:
    """What is to be said of a model that draws random numbers from no member's stream."""
    return (
        f"the scores of task {task.name} will not repeat: {'; '.join(task.signature.unseeded)} "
        "(what draws from torch's generator is the member's own here, other draws are not)"
    )
