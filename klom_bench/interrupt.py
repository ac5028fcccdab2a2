"""Being told to end: SIGTERM as Ctrl-C, so that what was finished is kept and said."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Ended:
    """The signal that ended the work."""

    signal: int = signal.SIGINT


def terminated_as_interrupted(ended: Ended | None = None) -> Callable[[], None]:
    """From now on SIGTERM raises KeyboardInterrupt, unless somebody else handles it.

    Returns what puts things back.
    """

    def interrupt(number: int, _: FrameType | None) -> None:
        if ended:
            ended.signal = number
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return lambda: None
    signal.signal(signal.SIGTERM, interrupt)

    def put_back() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return put_back


@contextmanager
def as_interrupt() -> Iterator[Ended]:
    """The same for as long as some work lasts; says which signal ended it."""
    ended = Ended()
    put_back = terminated_as_interrupted(ended)
    try:
        yield ended
    finally:
        put_back()
