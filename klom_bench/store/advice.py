"""What to do about an ensemble that is missing, stale, or will not repeat, in words."""

from collections.abc import Sequence
from pathlib import Path

from klom_bench.store.manifest import how_to_remove
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task

Wanted = Sequence[tuple[EnsembleId, int]]
"""Ensembles, and how many members of each."""


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


def what_to_do(ensemble: EnsembleId, folder: Path) -> str:
    """About a stale ensemble."""
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
