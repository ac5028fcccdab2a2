"""Being told to end: SIGTERM as Ctrl-C, so that what was finished is kept and said."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class Ended:
    """The signal that ended the work."""

    signal: int = signal.SIGINT


@contextmanager
def as_interrupt() -> Iterator[Ended]:
    """SIGTERM raises KeyboardInterrupt, unless somebody else handles it; says which signal came."""
    ended = Ended()

    def interrupt(number: int, _: FrameType | None) -> None:
        ended.signal = number
        raise KeyboardInterrupt

    in_main = threading.current_thread() is threading.main_thread()
    mine = in_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, interrupt)
    try:
        yield ended
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
