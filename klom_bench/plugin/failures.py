"""What a failing test shows: the words for a user, or the place in a method that raised."""

import re
from collections.abc import Callable
from traceback import walk_tb
from typing import TypeVar

import pytest

T = TypeVar("T")
SHAPES = r"shape|size|dimension|mat1 and mat2|expected target|broadcast|unpack|\b\d-?D\b"
"""What torch and Python say where a tensor has other dimensions than it should."""
OF_ONE_POINT = (
    "BatchNorm cannot be trained on a batch of one point: choose a batch_size that leaves no rest "
    "of one (also of the oracles' points), or let it be with freeze_batchnorm=true"
)
HINT = (
    "A method gets x [N, B, ...] and y [N, B] of N models at once: losses are in "
    "klom_bench (cross_entropy, kl); a function for one model is wrapped with klom_bench.per_model"
)


def plain_failures(work: Callable[[], T]) -> T:
    """A KlomError ends the test with its message; anything else shows where the method raised."""
    from klom_bench.errors import KlomError, visible_lines

    __tracebackhide__ = True
    try:
        return work()
    except KlomError as error:
        raise pytest.fail.Exception(visible_lines(str(error)), pytrace=False) from None
    except (Exception, SystemExit, pytest.fail.Exception) as error:
        from klom_bench.engine.failure import from_method

        if "Expected more than 1 value per channel" in str(error):
            error.add_note(OF_ONE_POINT)
        elif _is_about_shapes(error):
            error.add_note(HINT)
        there = _notes_of_workers(error)
        error.with_traceback(None if there else from_method(error.__traceback__))
        raise


def _is_about_shapes(error: BaseException) -> bool:
    """Whether a batch of N models may be the cause, where a method was written for one."""
    if not isinstance(error, RuntimeError | ValueError | IndexError):
        return False
    frames = (frame.f_globals.get("__name__") for frame, _ in walk_tb(error.__traceback__))
    of_one = "klom_bench.methods.per_model" in frames
    of_one |= any("klom_bench/methods/per_model" in note for note in _notes_of_workers(error))
    return not of_one and re.search(SHAPES, str(error), re.IGNORECASE) is not None


def _notes_of_workers(error: BaseException) -> list[str]:
    """Where an error was raised, if that was in another process: it came without its frames."""
    from klom_bench.engine.failure import ON_A_WORKER

    notes: list[str] = getattr(error, "__notes__", [])
    return [note for note in notes if note.startswith(ON_A_WORKER)]
