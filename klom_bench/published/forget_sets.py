"""Forget sets as a store has them: published files are found, checked, and downloaded if asked."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from klom_bench.errors import KlomError, unknown
from klom_bench.files.arrays import read_array
from klom_bench.forget_set import checked_forget_set
from klom_bench.published.hub import Hub
from klom_bench.tasks.task import NAME, Task


def index_files(task: Task, name: str) -> list[str]:
    """Where published layouts put the indices of a forget set, relative to the store."""
    folder = task.published.indices if task.published else task.folder
    return [
        f"forget_set_indices/{folder}/{name}.npy",
        f"forget_sets/{folder.lower()}/{name}.npy",
    ]


def stored(task: Task, root: Path, hub: Hub | None = None) -> Task:
    """The task with the forget sets of a store, those that only the store has included.

    hub: published ones that are missing are downloaded from there when they are used.
    """
    names = dict.fromkeys(task.forget_sets)
    for folder in {str(Path(path).parent) for path in index_files(task, "x")}:
        stems = sorted(file.stem for file in (root / folder).glob("*.npy"))
        names |= dict.fromkeys(stem for stem in stems if re.fullmatch(NAME, stem))
    sets: dict[str, Callable[[], Any]] = {
        name: partial(_indices, task, root, name, hub) for name in names
    }
    return replace(task, forget_sets=sets)


def _indices(task: Task, root: Path, name: str, hub: Hub | None) -> Any:
    """The set in the store's file; what the task has where there is none."""
    files = [root / path for path in index_files(task, name)]
    there = [file for file in files if file.is_file()]
    known = task.published.forget_sets.get(name) if task.published else None
    if not there:
        given = task.forget_sets[name]
        try:
            return given() if callable(given) else given
        except KlomError:
            if hub is None or known is None:
                raise
        hub.fetch_first(root, index_files(task, name))
        there = [file for file in files if file.is_file()]
    try:
        found = checked_forget_set(name, read_array(there[0]), task.train_points)
    except ValueError as error:
        raise KlomError(f"{there[0]}: {error}") from error
    if known is None and name in task.forget_sets:
        own = task.forget_set(name)
        known = (len(own), own.sha256)
    if known and found.sha256 != known[1]:
        raise KlomError(
            f"{there[0]} holds other indices ({len(found)}) than {name} of {task.name} has "
            f"({known[0]}): is it damaged, or of another dataset? Remove it"
        )
    return found


def selected(asked: Iterable[str], known: tuple[str, ...]) -> list[str]:
    """Names of forget sets for names, numbers and ranges; all where nothing is asked for."""
    found: list[str] = []
    for text in (part for given in asked for part in given.split(",")):
        names: Iterable[str] = [text.strip()]
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip()):
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise KlomError(f"forget set {text}: the range ends before it begins")
            names = (f"forget_set_{i}" for i in range(first, last + 1))
        for name in names:
            if name not in known:
                raise KlomError(unknown("forget set", name, known))
            found.append(name)
    return list(dict.fromkeys(found)) or list(known)
