"""Progress of long work on a terminal, beside pytest's own output and gone when it ends."""

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from klom_bench.plugin.keys import TERMINAL
from klom_bench.progress import Announce, Tick, silent

REFRESH_SECONDS = 0.1
SAVE, RESTORE, ERASE = "\0337", "\0338", "\033[K"


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


def open_terminal() -> IO[str] | None:
    """The terminal under pytest's standard output, None where there is none.

    Call it while capturing is suspended, as it is in pytest_configure: during a test, capturing
    points file descriptor 1 elsewhere.
    """
    stdout = sys.__stdout__
    if stdout is None or not stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    return os.fdopen(os.dup(stdout.fileno()), "w", encoding="utf-8")


def announce_on(config: pytest.Config) -> Announce:
    """Progress to the right of what pytest has written of the current line."""
    terminal = config.stash.get(TERMINAL, None)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or reporter is None:
        return silent
    columns = shutil.get_terminal_size().columns
    room = columns - reporter._tw.width_of_current_line - 2
    return _announce(terminal, room) if room > 0 else silent


def _announce(terminal: IO[str], room: int) -> Announce:
    @contextmanager
    def announce(label: str, members: int) -> Iterator[Tick]:
        lock, start = threading.Lock(), time.monotonic()
        done = shown = 0.0

        def show(text: str) -> None:
            # Written to the right of pytest's own line, and the cursor put back.
            terminal.write(f"{SAVE} {text[:room]}{ERASE}{RESTORE}")
            terminal.flush()

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
            terminal.write(ERASE)
            terminal.flush()

    return announce
