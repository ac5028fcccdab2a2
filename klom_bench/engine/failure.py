"""An error on its way from a worker to the process that started the run."""

import importlib
import io
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ON_A_WORKER = "On a worker of Ray"
"""How the note of an error begins that was raised there."""
OF_THE_WORKER = ("klom_bench/engine/", "klom_bench/cell/", "klom_bench/store/")
"""Files in whose frames nobody looks for the fault of a method."""
OUTCOMES = ("skip", "fail", "exit")
"""What pytest ends tests by: classes that say they are of another module than they are."""


@dataclass(frozen=True)
class Failure:
    """content: the error, pickled. text, notes: what is told of it where it cannot be read."""

    content: bytes
    text: str
    notes: Sequence[str]

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Where it and its causes were raised become notes: tracebacks stay where they are."""
        text = f"{type(error).__name__}: {error}"
        for one in _chain(error):
            one.add_note(_where(one))
        notes = tuple(error.__notes__)
        try:
            return cls(_pickled(error), text, notes)
        except Exception:  # pickle has errors of many kinds
            return cls(b"", text, notes)

    def error(self) -> BaseException:
        """The same error; a RuntimeError that says what it was, where it cannot be read here."""
        from ray import cloudpickle

        try:
            found: BaseException = cloudpickle.loads(self.content)
        except Exception:  # so has unpickling
            found = RuntimeError(self.text)
            for note in self.notes:
                found.add_note(note)
        return found


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame
        for frame in frames
        if not any(part in Path(frame.filename).as_posix() for part in OF_THE_WORKER)
    ]
    return f"{ON_A_WORKER}:\n{''.join(traceback.format_list(own))}".rstrip()


def _pickled(error: BaseException) -> bytes:
    import pytest
    from ray import cloudpickle

    outcomes = {getattr(pytest, name).Exception: name for name in OUTCOMES}

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            if isinstance(thing, BaseException):
                causes = (thing.__cause__, thing.__context__, thing.__suppress_context__)
                return _made, (type(thing), thing.args, vars(thing), *causes)
            if isinstance(thing, type) and thing in outcomes:
                return _outcome, (outcomes[thing],)
            return super().reducer_override(thing)

    buffer = io.BytesIO()
    Pickler(buffer).dump(error)
    return buffer.getvalue()


def _made(
    kind: type[BaseException],
    args: tuple[Any, ...],
    state: Mapping[str, Any],
    cause: BaseException | None,
    context: BaseException | None,
    suppressed: bool,
) -> BaseException:
    try:
        error = kind(*args)
    except TypeError:  # it is made of other arguments than those that it has kept
        error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(state)
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = suppressed
    return error


def _outcome(name: str) -> Any:
    return getattr(importlib.import_module("pytest"), name).Exception
