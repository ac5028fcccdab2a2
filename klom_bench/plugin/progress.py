"""Progress of long work: on a terminal beside pytest's own output, in a log now and then."""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from klom_bench.plugin.keys import SHOW
from klom_bench.progress import (
    LOG_SECONDS,
    REFRESH_SECONDS,
    Announce,
    Show,
    announcing,
    now_and_then,
    said,
    silent,
    takes_back,
)

FOLDER = "klom_progress"
SAVE, RESTORE, ERASE = "\0337", "\0338", "\033[K"


def open_progress(config: pytest.Config, seconds: float = LOG_SECONDS) -> Show | None:
    """Where progress is shown: on pytest's standard output, but with -qq in no log.

    Call it while capturing is suspended, as it is in pytest_configure: during a test, capturing
    points file descriptor 1 elsewhere.
    """
    stdout = sys.__stdout__
    if stdout is None or not config.pluginmanager.has_plugin("terminal"):
        return None
    on_terminal = takes_back(stdout)
    if not on_terminal and config.get_verbosity() < -1:
        return None
    stream = os.fdopen(os.dup(stdout.fileno()), "w", encoding="utf-8")
    config.add_cleanup(stream.close)
    if on_terminal:
        return _beside(config, stream)
    log = Log(config, stream)
    config.pluginmanager.register(log)
    return now_and_then(log.say, seconds)


def announce_on(config: pytest.Config) -> Announce:
    """Progress of this process: shown, or in a file for the controller to show."""
    if folder := getattr(config, "workerinput", {}).get(FOLDER):
        return announcing(_into(Path(folder) / config.workerinput["workerid"]))  # type: ignore[attr-defined]
    show = config.stash.get(SHOW, None)
    return announcing(show) if show else silent


class Log:
    """Lines of their own among what pytest writes, which goes on in the column where it was."""

    def __init__(self, config: pytest.Config, stream: IO[str]) -> None:
        self._config, self._stream = config, stream
        self._interrupted = 0
        """The column at which pytest was interrupted; 0 if it was not since it last wrote."""

    def say(self, text: str) -> None:
        """A line."""
        if not self._interrupted and (column := _column(self._config)):
            self._interrupted = column
            self._stream.write("\n")
        self._stream.write(f"{said(text)}\n")
        self._stream.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        """pytest writes about a test now."""
        self._back()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self) -> None:
        """The same."""
        self._back()

    def _back(self) -> None:
        self._stream.write(" " * self._interrupted)
        self._stream.flush()
        self._interrupted = 0


class WorkersProgress:
    """The controller shows what the workers are at: they write it into files."""

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
                self._put("; ".join(self._lines()))
        self._put("")

    def _put(self, text: str) -> None:
        if show := self._config.stash[SHOW]:
            show(text)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logstart(self) -> Generator[None, Any, Any]:
        """Make room: pytest writes about a test now, perhaps from the next line on."""
        with self._writing:
            self._put("")
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_logreport(self) -> Generator[None, Any, Any]:
        """The same."""
        with self._writing:
            self._put("")
            return (yield)

    def _lines(self) -> Iterator[str]:
        for path in sorted(self._folder.iterdir()):
            try:
                if text := path.read_text(encoding="utf-8"):
                    yield f"{path.name} {text}"
            except FileNotFoundError:  # it has just ended
                continue


def _beside(config: pytest.Config, terminal: IO[str]) -> Show:
    """Writes to the right of what pytest has written of the current line; "" takes it away."""

    def show(text: str) -> None:
        room = shutil.get_terminal_size().columns - _column(config) - 2
        if room > 0:
            # One write, and the cursor put back: pytest may write at the same time.
            terminal.write(f"{SAVE} {text[:room]}{ERASE}{RESTORE}" if text else ERASE)
            terminal.flush()

    return show


def _column(config: pytest.Config) -> int:
    """How much pytest has written of the current line."""
    return config.get_terminal_writer().width_of_current_line


def _into(path: Path) -> Show:
    def show(text: str) -> None:
        path.write_text(text, encoding="utf-8")

    return show
