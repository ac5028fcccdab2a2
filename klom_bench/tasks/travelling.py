"""On its way to another process: a task goes without its data; what is large arrives there once."""

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import uuid4

from klom_bench.errors import KlomError
from klom_bench.tasks.data import Data

T = TypeVar("T")
Bring = Callable[[str, Any], Callable[[], Any]]
"""bring(token, value) keeps it where other processes find it; returns what reads it there."""

KNOWN = 4
"""What a process keeps of all that has arrived, tasks with all that was computed of them: so many
that were used last."""

_bring: ContextVar[Bring | None] = ContextVar("klom_bring", default=None)
_arrived: dict[str, Any] = {}


@contextmanager
def leaving(bring: Bring) -> Iterator[None]:
    """Tasks that are pickled while this lasts go without their data. These, and the value of each
    `Once`, are brought so."""
    before = _bring.set(bring)
    try:
        yield
    finally:
        _bring.reset(before)


class Travels:
    """What is pickled without its data while it leaves for another process."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        bring = _bring.get()
        if bring is None:
            return super().__reduce_ex__(protocol)
        task: Any = self
        token = vars(self).setdefault("_token", new_name())
        if _is_of_this_package(task.load):
            load: Callable[[], Data] = AsHere(task.name, task.load, task.data_hashes)
        else:  # a user's own may draw data at random, or read files that are on this machine only
            load = bring(token, task.data)
        state = {n: value for n, value in vars(self).items() if n not in ("data", "_placed")}
        return arrive, (type(self), token, {**state, "load": load})


def new_name() -> str:
    """Under which something is brought to other processes, and is known there."""
    return uuid4().hex


@dataclass(frozen=True, eq=False)
class Once(Generic[T]):
    """What is brought to other processes once, in however many packs it is named."""

    value: T
    token: str = field(default_factory=new_name)

    def __reduce__(self) -> Any:
        bring = _bring.get()
        if bring is None:
            return Once, (self.value, self.token)
        return _once, (self.token, bring(self.token, self.value))


def _once(token: str, load: Callable[[], T]) -> Once[T]:
    found: Once[T] = kept(_arrived, KNOWN, token, lambda: Once(load(), token))
    return found


@dataclass(frozen=True)
class AsHere:
    """Reads data where it is called, and sees that they are those that are meant."""

    task: str
    load: Callable[[], Data]
    hashes: Mapping[str, str]

    def __call__(self) -> Data:
        """The data; KlomError where they are others."""
        data = self.load()
        if data.hashes() != self.hashes:
            raise KlomError(
                f"the data of {self.task} on {platform.node()} are not those of the process that "
                "started the run: let $KLOM_DATA name the same files on all nodes"
            )
        return data


def arrive(kind: type[Any], token: str, state: Mapping[str, Any]) -> Any:
    """The task that left: the same object each time, as long as a process knows it."""

    def made() -> Any:
        task = object.__new__(kind)
        vars(task).update(state)
        return task

    return kept(_arrived, KNOWN, token, made)


def kept(known: dict[str, T], most: int, token: str, make: Callable[[], T]) -> T:
    """What is known under this name, else made; so many stay known that were used last."""
    found = known.pop(token) if token in known else make()
    while len(known) >= most:
        del known[next(iter(known))]
    known[token] = found  # as the last to go
    return found


def _is_of_this_package(load: Any) -> bool:
    while isinstance(load, partial):
        load = load.func
    return str(getattr(load, "__module__", "")).partition(".")[0] == "klom_bench"
