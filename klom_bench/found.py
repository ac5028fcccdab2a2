"""Tasks and methods by name: built-in ones, those of entry points, and those of a pyproject.toml.

Their names are known at once, and what an entry point stands for is imported when it is asked for:
so an installed package that is broken, or slow to import, is no matter to who uses another. Tasks
of [tool.klom] are imported to learn their names, as a conftest.py is.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from traceback import extract_tb
from typing import Any, Literal, TypeVar

from klom_bench.errors import KlomError, unknown
from klom_bench.methods import BUILT_IN as METHODS
from klom_bench.methods.method import Method, method_of
from klom_bench.methods.named import method_named as built_in_or_in_file
from klom_bench.pyproject import klom_table
from klom_bench.tasks import BUILT_IN as TASKS
from klom_bench.tasks.task import Task

T = TypeVar("T")
Tasks = Mapping[str, Callable[[], Task]]
Methods = Mapping[str, Callable[[], Method]]
Kind = Literal["tasks", "methods"]


@dataclass(frozen=True)
class Place:
    """Where something is to be imported from.

    said: who names it, in words. target: module:attribute. folder: the module may lie in it.
    """

    said: str
    target: str
    folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.said} ({self.target})"

    def load(self) -> Any:
        """What lies there; KlomError that says why it cannot be had."""
        if not re.fullmatch(r"[\w.]+:[\w.]+", self.target):
            raise KlomError(f"{self}: module:name is expected, as my_task:task")
        if self.folder and str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        return self.tried(self._imported)

    def _imported(self) -> Any:
        module, _, path = self.target.partition(":")
        found: Any = import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def tried(self, work: Callable[[], T]) -> T:
        """What the code of that place gives; KlomError in a line, with the line that failed."""
        try:
            return work()
        except (Exception, SystemExit) as error:
            reason = str(error).strip().partition("\n")[0]
            if isinstance(error, KlomError):
                raise KlomError(f"{self}: {reason}") from error
            last = extract_tb(error.__traceback__)[-1]
            own = last.filename != __file__ and not last.filename.startswith("<")
            where = f" ({Path(last.filename).name}, line {last.lineno})" if own else ""
            raise KlomError(f"{self}: {type(error).__name__}: {reason}{where}") from error


def tasks_from(starts: Iterable[Path], hooked: Iterable[Task] = ()) -> Tasks:
    """By name, what gives the task: it is imported then, where an entry point names it.

    starts: folders from which a pyproject.toml is looked for. hooked: what a conftest.py gives.
    KlomError where two of a name are no built-in one, or [tool.klom] names something else.
    """
    listed = [(task, place) for place in _listed("tasks", starts) for task in _tasks_in(place)]
    named: list[tuple[str, object, Callable[[], Task]]] = [
        *((task.name, place, partial(_same, task)) for task, place in listed),
        *((task.name, "the hook pytest_klom_tasks", partial(_same, task)) for task in hooked),
        *((name, place, partial(_task_in, name, place)) for name, place in _entry_points("tasks")),
    ]
    return {name: partial(_same, task) for name, task in TASKS.items()} | _by_name("tasks", named)


def methods_from(starts: Iterable[Path]) -> Methods:
    """By name, what gives the method: it is imported then, where it is no built-in one.

    One of [tool.klom] is named like its function. KlomError as of tasks.
    """
    named = [
        *((place.target.rpartition(":")[2], place) for place in _listed("methods", starts)),
        *_entry_points("methods"),
    ]
    own = _by_name("methods", [(n, place, partial(_method_in, n, place)) for n, place in named])
    return {name: partial(_same, method) for name, method in METHODS.items()} | own


def loaded(found: Mapping[str, Callable[[], T]]) -> dict[str, T]:
    """All of them; KlomError for the first that cannot be imported."""
    return {name: load() for name, load in found.items()}


def method_named(text: str) -> Method:
    """The method of this name, as seen from the current folder, or FILE.py:FUNCTION."""
    if ":" in text:
        return built_in_or_in_file(text)
    known = methods_from([Path.cwd()])
    if text not in known:
        raise KlomError(f"{unknown('method', text, known)}, or FILE.py:FUNCTION")
    return known[text]()


def with_all(names: Iterable[str]) -> tuple[str, ...]:
    """Names of methods, each once; `all` stands for the built-in ones."""
    found = (name for given in names for name in (METHODS if given == "all" else [given]))
    return tuple(dict.fromkeys(found))


def _same(thing: T) -> T:
    return thing


def _by_name(
    kind: Kind, named: Iterable[tuple[str, object, Callable[[], T]]]
) -> dict[str, Callable[[], T]]:
    """What gives each; KlomError where two have one name."""
    named = list(named)
    for name, count in Counter(name for name, _, _ in named).items():
        if count > 1:
            first, second, *_ = (place for one, place, _ in named if one == name)
            raise KlomError(
                f"two {kind} are named {name!r}, by {first} and by {second}: rename or remove one"
            )
    return {name: load for name, _, load in named}


def _entry_points(kind: Kind) -> list[tuple[str, Place]]:
    """Names and places of what installed packages give."""
    found = []
    for entry in entry_points(group=f"klom_bench.{kind}"):
        package = f" of {entry.dist.name}" if entry.dist else ""
        target = entry.value.partition("[")[0].strip()  # what follows are extras
        found.append((entry.name, Place(f"the entry point {entry.name!r}{package}", target)))
    return found


def _listed(kind: Kind, starts: Iterable[Path]) -> list[Place]:
    """What [tool.klom] names."""
    table, path = klom_table(starts)
    return [
        Place(f"[tool.klom] {kind} of {path}", target, path.parent)
        for target in table.get(kind, ())
        if path
    ]


def _tasks_in(place: Place) -> list[Task]:
    """A task, a list of tasks, or what a function gives."""
    given = place.load()
    if callable(given):
        given = place.tried(given)
    tasks = [given] if isinstance(given, Task) else given
    if not (isinstance(tasks, list | tuple) and all(isinstance(task, Task) for task in tasks)):
        raise KlomError(
            f"{place} gives {type(given).__name__}: a Task, a list of tasks, or a function without "
            "arguments that returns one of these is expected"
        )
    return list(tasks)


def _task_in(name: str, place: Place) -> Task:
    """The task of an entry point, which is named like it."""
    tasks = {task.name: task for task in _tasks_in(place)}
    if name not in tasks:
        raise KlomError(
            f"{place} gives the tasks {', '.join(tasks) or 'none'}: an entry point must be named "
            "like its task"
        )
    return tasks[name]


def _method_in(name: str, place: Place) -> Method:
    given = place.load()
    if not callable(given):
        raise KlomError(f"{place} gives {type(given).__name__}: an unlearning function is expected")
    return place.tried(lambda: method_of(name, given))
