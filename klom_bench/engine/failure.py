"""An error on its way from a worker to the process that started the run."""

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from klom_bench.engine.copied import pickled

ON_A_WORKER = "On a worker of Ray"
"""How the note of an error begins that was raised there."""
BETWEEN = (
    "klom_bench.cell",
    "klom_bench.conformance",
    "klom_bench.engine",
    "klom_bench.ensemble.threads",
    "klom_bench.methods.method",
    "klom_bench.plugin",
    "pytest_benchmark",
    "concurrent.futures",
)
"""Modules that run a method, in whose frames nobody looks for its fault."""
OUTCOMES = ("skip", "fail", "exit")
"""What pytest ends tests by: classes that say they are of another module than they are."""


def from_method(whole: TracebackType | None) -> TracebackType | None:
    """The part of a traceback below what runs methods: harness, threads, pytest-benchmark."""
    part = whole
    while part and str(part.tb_frame.f_globals.get("__name__")).startswith(BETWEEN):
        part = part.tb_next
    return part or whole


@dataclass(frozen=True)
class Raised:
    """One error: pickled, in words, where it was raised, and whether the one before is due to it.

    content: empty where it cannot be pickled. is_cause: named by `raise ... from`, else it was
    being handled.
    """

    content: bytes
    text: str
    note: str
    is_cause: bool

    @classmethod
    def of(cls, error: BaseException, is_cause: bool) -> "Raised":
        """Its traceback, which stays where it is, as a note."""
        text = "".join(traceback.format_exception_only(error)).strip()
        note = f"{ON_A_WORKER}:\n{''.join(_places(error))}".rstrip()
        try:
            return cls(_pickled(error), text, note, is_cause)
        except Exception as reason:  # pickle has errors of many kinds
            return cls(b"", text, f"{note}\nIt could not be sent: {reason}", is_cause)

    def error(self) -> BaseException:
        """The same error; a RuntimeError that says what it was, where it cannot be read here."""
        from ray import cloudpickle

        found: BaseException = RuntimeError(self.text)
        notes = [self.note]
        if self.content:
            try:
                found = cloudpickle.loads(self.content)
            except Exception as reason:  # of many kinds, too: a module that is not here
                notes.append(f"It could not be read here: {reason!r}")
        vars(found).setdefault("__notes__", []).extend(notes)  # some forbid add_note
        return found


@dataclass(frozen=True)
class Failure:
    """An error, and those that it was raised from or beside, one after the other."""

    errors: tuple[Raised, ...]

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """As Python would print them."""
        return cls(tuple(Raised.of(one, is_cause) for one, is_cause in _chain(error)))

    def error(self) -> BaseException:
        """The first, with the others behind it."""
        first, *others = ((one.error(), one.is_cause) for one in self.errors)
        last = first[0]
        for one, is_cause in others:
            name = "__cause__" if is_cause else "__context__"
            BaseException.__setattr__(last, name, one)  # some forbid their own
            last = one
        return first[0]


def _chain(error: BaseException) -> Iterator[tuple[BaseException, bool]]:
    found: BaseException | None = error
    is_cause, seen = True, set[int]()
    while found is not None and id(found) not in seen:
        yield found, is_cause
        seen.add(id(found))
        is_cause = found.__cause__ is not None
        hidden = found.__suppress_context__
        found = found.__cause__ if is_cause else None if hidden else found.__context__


def _places(error: BaseException) -> Iterator[str]:
    yield from traceback.format_tb(from_method(error.__traceback__))
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from traceback.format_exception_only(one)
            yield from _places(one)


def _pickled(error: BaseException) -> bytes:
    pytest = sys.modules.get("pytest")  # who raises one of these has imported it
    outcomes = {getattr(pytest, name).Exception: name for name in OUTCOMES} if pytest else {}

    def reduce(thing: Any) -> Any:
        if isinstance(thing, BaseException):
            reduced: Any = thing.__reduce_ex__(4)
            if reduced[0] is type(thing):
                make, given, state = (*reduced, None)[:3]
                return _made, (make, given, thing.args, state or {})
        if isinstance(thing, type) and thing in outcomes:
            return _outcome, (outcomes[thing],)
        return NotImplemented

    return pickled(error, reduce)


def _made(
    kind: type[BaseException],
    given: tuple[Any, ...],
    args: tuple[Any, ...],
    state: Mapping[str, Any],
) -> BaseException:
    try:
        error = kind(*given)
    except Exception:  # whatever it says to what it keeps: it was made of something else
        error = kind.__new__(kind, *given)
    BaseException.args.__set__(error, args)  # type: ignore[attr-defined]
    for name, value in state.items():
        BaseException.__setattr__(error, name, value)  # some forbid their own
    return error


def _outcome(name: str) -> Any:
    return getattr(importlib.import_module("pytest"), name).Exception
