"""Errors on their way from a worker: the same ones arrive, or words that say what they were."""

import io
import threading
from dataclasses import dataclass

import pytest

from klom_bench import KlomError
from klom_bench.engine.failure import Failure

pytest.importorskip("ray")


class OfOthers(Exception):
    def __init__(self, number, unit):
        super().__init__(f"{number} {unit}")
        self.number = number


class Picky(Exception):
    def __init__(self, number):
        super().__init__(f"number {int(number)}")


class Mute(Exception):
    def __str__(self):
        raise ValueError("nothing to say")

    def __bool__(self):
        return False

    __hash__ = None

    def __eq__(self, other):
        raise ValueError("cannot be compared")


@dataclass(frozen=True)
class Frozen(Exception):
    number: int


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def arrived(error):
    return Failure.of(error).error()


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no step"),
        KlomError("a smaller step"),
        FileNotFoundError(2, "not there", "weights.pt"),
        ImportError("not there", name="torch", path="torch.py"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
        SystemExit(3),
        KeyboardInterrupt("by itself"),
        pytest.skip.Exception("not on Sundays"),
        pytest.fail.Exception("not so"),
        OfOthers(3, "steps"),
        Picky(3),
        Frozen(3),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_same_error_arrives(error):
    found = arrived(raised(error))
    assert type(found) is type(error)
    assert found.args == error.args
    assert str(found) == str(error)
    for name in ("filename", "name", "path", "number", "msg", "code"):
        assert getattr(found, name, None) == getattr(error, name, None)
    (note,) = found.__notes__
    assert note.startswith("On a worker of Ray:\n")
    assert "raise error from cause" in note
    assert not hasattr(error, "__notes__")


def test_notes_of_its_own_are_kept():
    error = ValueError("no step")
    error.add_note("of mine")
    mine, where = arrived(raised(error)).__notes__
    assert (mine, where[:18]) == ("of mine", "On a worker of Ray")


def test_causes_arrive_each_with_its_place():
    error = raised(ValueError("second"), raised(KeyError("first"), raised(OSError("origin"))))
    found = arrived(error)
    assert type(found.__cause__) is KeyError
    assert type(found.__cause__.__cause__) is OSError
    assert "raise error from cause" in found.__cause__.__cause__.__notes__[0]


def test_what_was_handled_arrives_unless_it_is_hidden():
    def both(hidden):
        try:
            try:
                raise KeyError("first")
            except KeyError:
                if hidden:
                    raise ValueError("second") from None
                raise ValueError("second")  # noqa: B904
        except ValueError as error:
            return arrived(error)

    assert type(both(False).__context__) is KeyError
    assert both(False).__cause__ is None
    assert both(True).__context__ is None


def test_members_of_a_group_have_their_places():
    group = raised(ExceptionGroup("two", [raised(ValueError("one")), raised(KeyError("other"))]))
    found = arrived(group)
    assert [type(one) for one in found.exceptions] == [ValueError, KeyError]
    assert found.__notes__[0].count("raise error from cause") == 3


def test_a_chain_that_is_a_ring_ends():
    one, other = raised(ValueError("one")), raised(ValueError("other"))
    one.__cause__, other.__cause__ = other, one
    assert str(arrived(one).__cause__) == "other"


def test_a_cause_that_cannot_leave_is_told_in_words():
    held = OSError("in use")
    held.lock = threading.Lock()
    found = arrived(raised(KlomError("a smaller step"), raised(held)))
    assert type(found) is KlomError
    assert type(found.__cause__) is RuntimeError
    assert str(found.__cause__) == "OSError: in use"
    assert "It could not be sent: cannot pickle '_thread.lock'" in found.__cause__.__notes__[0]


def test_what_cannot_be_said_leaves_nonetheless():
    assert type(arrived(raised(Mute()))) is Mute


class Unreadable(Exception):
    def __reduce__(self):
        return io.open, ("of another machine", "no such mode")


def test_what_cannot_be_read_is_told_in_words():
    found = arrived(raised(Unreadable("no step")))
    assert type(found) is RuntimeError
    assert str(found).endswith("Unreadable: no step")
    assert "raise error from cause" in found.__notes__[0]
    assert "could not be read here: ValueError" in found.__notes__[1]
