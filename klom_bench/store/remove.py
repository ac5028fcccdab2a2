"""Removing ensembles that were trained here, so that nobody deletes folders of a store by hand."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from klom_bench.errors import KlomError
from klom_bench.store.leases import refuse_claimed
from klom_bench.store.survey import DAMAGED, Holding


def chosen(
    holdings: Sequence[Holding],
    task: str,
    forget_sets: Sequence[str] = (),
    seed: int | None = None,
    kind: str | None = None,
) -> list[Holding]:
    """Those of a task, or only the oracles of these forget sets, those moved aside included.

    kind: `full_models` or `random_halves`, where only these are meant.

    Published ensembles are not ours to remove.
    """
    folders = {_home(h)[-1] for h in holdings if h.task == task}
    folders |= {task, task.upper()}  # of one whose manifest cannot be read, only the folder tells
    mine = []
    for h in holdings:
        place = _home(h)
        name = h.forget_set if h.task == task else None
        if h.made == DAMAGED and place[-1] in folders:
            name = Path(h.folder).name if place[-2] == "oracles" else None
        elif h.task != task or not h.ours:
            continue
        asked = (not forget_sets or name in forget_sets) and kind in (None, place[0])
        if asked and seed in (None, _seed(h)):
            mine.append(h)
    return mine


def _home(h: Holding) -> tuple[str, ...]:
    """The parts of a folder's path down to that of the task: ("oracles", "DIGITS")."""
    parts = Path(h.folder).parts
    for kind in ("full_models", "oracles", "random_halves"):
        if kind in parts[:-1]:
            place = parts.index(kind)
            return parts[place : place + 2]
    return ("", "")


def _seed(h: Holding) -> int:
    """By the folder, since manifests may be damaged."""
    of = [part for part in Path(h.folder).parts if part.startswith("seed_")]
    return int(of[0].removeprefix("seed_")) if of and of[0][5:].isdecimal() else 0


def remove(root: Path, holdings: Sequence[Holding]) -> None:
    """Delete the folders of these ensembles; KlomError where another run is training into one."""
    for h in holdings:
        try:
            folder = root / h.folder
            if folder.is_symlink():
                raise KlomError(
                    f"{folder} is a link to {folder.resolve()}, and nothing outside the store is "
                    "removed: remove the link, and what it leads to, by hand"
                )
            refuse_claimed(folder)
            shutil.rmtree(folder)
        except OSError as error:
            raise KlomError(
                f"{error.filename or h.folder} cannot be removed ({error.strerror or error}): what "
                "came before it is removed, the rest is there still"
            ) from error
