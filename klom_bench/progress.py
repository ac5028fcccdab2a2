"""How long work tells how far it is, without knowing who listens."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO

REFRESH_SECONDS = 0.1
LOG_SECONDS = 30.0
"""How often a log is told, which keeps every line."""
ERASE = "\033[K"
"""What takes away the rest of a terminal's line."""
Show = Callable[[str], None]
"""Shows a text in place of the last one; "" takes it away."""

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


def now_and_then(say: Show, seconds: float = LOG_SECONDS) -> Show:
    """For a log: every so many seconds, and not before, what is shown then, changed or not."""
    shown, due, lock = "", time.monotonic() + seconds, threading.Lock()
    ended, speaker = threading.Event(), threading.Thread()

    def speak(ended: threading.Event) -> None:
        nonlocal due
        while not ended.wait(max(due - time.monotonic(), 0)):
            due = time.monotonic() + seconds
            say(shown)

    def show(text: str) -> None:
        nonlocal shown, ended, speaker
        with lock:
            if text and not shown:
                ended = threading.Event()
                speaker = threading.Thread(target=speak, args=(ended,), daemon=True)
                shown = text
                speaker.start()
            elif shown and not text:
                ended.set()
                speaker.join()  # nothing is said from here on
            shown = text

    return show


def on_terminal() -> bool:
    """Whether standard error is a terminal on which a line can be taken back."""
    return takes_back(sys.stderr)


def takes_back(stream: IO[str]) -> bool:
    """Whether this is a terminal on which a line can be taken back."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def progress(seconds: float = LOG_SECONDS) -> Announce:
    """Progress on standard error: a line that changes on a terminal, else one every so often."""
    if on_terminal():
        return announcing(lambda text: _put(f"\r{text}{ERASE}"))
    return announcing(now_and_then(lambda text: _put(f"{said(text)}\n"), seconds))


def said(text: str) -> str:
    """A line of a log, among those of others."""
    return f"klom: {text}"


def _put(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


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
