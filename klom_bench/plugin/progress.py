"""Progress of long work on a terminal, beside pytest's own output and gone when it ends."""

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from klom_bench.plugin.keys import TERMINAL
from klom_bench.progress import REFRESH_SECONDS, Announce, Show, announcing, silent

FOLDER = "klom_progress"
SAVE, RESTORE, ERASE = "\0337", "\0338", "\033[K"


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
        return announcing(_into(Path(folder) / config.workerinput["workerid"]))  # type: ignore[attr-defined]
    show = _beside(config)
    return announcing(show) if show else silent


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
                    show("; ".join(self._lines()))
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

    def _lines(self) -> Iterator[str]:
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
