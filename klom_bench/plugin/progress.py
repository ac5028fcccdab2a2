"""Progress of long work on a terminal, beside pytest's own output and gone when it ends."""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from klom_bench.plugin.keys import TERMINAL
from klom_bench.progress import Announce, Tick, silent

REFRESH_SECONDS = 0.1
FOLDER = "klom_progress"
Show = Callable[[str], None]
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
    """Progress of this process: on the terminal, or in a file for the controller to show."""
    if folder := getattr(config, "workerinput", {}).get(FOLDER):
        return _announcing(_into(Path(folder) / config.workerinput["workerid"]))  # type: ignore[attr-defined]
    show = _beside(config)
    return _announcing(show) if show else silent


class WorkersProgress:
    """Shows on the controller's terminal what the workers are at: they write it into files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._folder = Path(tempfile.mkdtemp(prefix="klom-progress-"))
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._show, daemon=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to write."""
        node.workerinput[FOLDER] = str(self._folder)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> None:
        """Begin once tests do."""
        self._thread.start()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """End before anything else is written."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def pytest_unconfigure(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _show(self) -> None:
        while not self._ended.wait(2 * REFRESH_SECONDS):
            with self._writing:
                if show := _beside(self._config):
                    show("; ".join(self._told()))
        self._erase()

    def _erase(self) -> None:
        if show := _beside(self._config):
            show("")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, Any, Any]:
        """Make room: pytest writes about a test now, perhaps from the next line on."""
        with self._writing:
            self._erase()
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """The same."""
        with self._writing:
            self._erase()
            return (yield)

    def _told(self) -> Iterator[str]:
        for path in sorted(self._folder.iterdir()):
            try:
                if text := path.read_text(encoding="utf-8"):
                    yield f"{path.name} {text}"
            except FileNotFoundError:  # it has just ended
                continue


def _beside(config: pytest.Config) -> Show | None:
    """Writes to the right of what pytest has written of the current line; "" takes it away."""
    terminal = config.stash.get(TERMINAL, None)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or reporter is None:
        return None
    room = shutil.get_terminal_size().columns - reporter._tw.width_of_current_line - 2
    if room <= 0:
        return None

    def show(text: str) -> None:
        # One write, and the cursor put back: pytest may write at the same time.
        terminal.write(f"{SAVE} {text[:room]}{ERASE}{RESTORE}" if text else ERASE)
        terminal.flush()

    return show


def _into(path: Path) -> Show:
    def show(text: str) -> None:
        path.write_text(text, encoding="utf-8")

    return show


def _announcing(show: Show) -> Announce:
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
