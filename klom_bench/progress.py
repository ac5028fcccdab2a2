"""How long work tells how far it is, without knowing who listens."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

REFRESH_SECONDS = 0.1
ERASE = "\033[K"
"""What takes away the rest of a terminal's line."""
Show = Callable[[str], None]
"""Shows a line in place of the last one; "" takes it away."""

Tick = Callable[[float], None]
"""Called with the members' worth of work just done (a fraction while a member is under way)."""

WAITING = "waiting for"
"""How the label of work begins that others do."""

Announce = Callable[[str, int], AbstractContextManager[Tick]]
"""announce("training oracles of forget_set_3", 100) for as long as that work lasts."""


@contextmanager
def silent(label: str, members: int) -> Iterator[Tick]:
    """Tells nobody."""
    yield lambda amount: None


def announcing(show: Show) -> Announce:
    """Tells how far work is by one line that changes."""

    @contextmanager
    def announce(label: str, members: int) -> Iterator[Tick]:
        lock, start = threading.Lock(), time.monotonic()
        done = shown = 0.0

        def tick(amount: float) -> None:
            nonlocal done, shown
            with lock:
                done += amount
                now = time.monotonic()
                if now - shown >= REFRESH_SECONDS:
                    shown = now
                    show(line(label, done, members, now - start))

        show(line(label, 0, members, 0))
        try:
            yield tick
        finally:
            show("")

    return announce


def on_terminal() -> bool:
    """Whether standard error is a terminal on which a line can be taken back."""
    return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def progress() -> Announce:
    """Progress on standard error: a line that changes on a terminal, else one when work begins."""
    if on_terminal():

        def show(text: str) -> None:
            sys.stderr.write(f"\r{text}{ERASE}")
            sys.stderr.flush()

        return announcing(show)

    @contextmanager
    def once(label: str, count: int) -> Iterator[Tick]:
        sys.stderr.write(f"{label}: {count}\n")
        yield lambda amount: None

    return once


def line(label: str, done: float, total: int, seconds: float) -> str:
    """`training oracles of forget_set_3 40/100, 38/s, 2 s left`."""
    text = f"{label} {int(done + 1e-6)}/{total}"
    if done > 0 and seconds > 0:
        rate = done / seconds
        shown = f"{rate:.0f}/s" if rate >= 1 else f"{1 / rate:.0f} s each"
        text += f", {shown}, {_span((total - done) / rate)} left"
    return text


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
