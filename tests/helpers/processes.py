"""pytest in processes of its own: on a terminal, under xdist, with what was written down."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

LIGHT = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:anyio")
"""Without plugins that take long to import: hypothesis, and anyio where trio is there."""
PYTEST = [sys.executable, "-m", "pytest", *LIGHT]

WORKERS = [
    pytest.param([], id="serial"),
    pytest.param(["-n1"], id="workers", marks=pytest.mark.processes),
]

WRITES_DOWN = """
import os, pathlib, sys

here = pathlib.Path(__file__).parent

def write_down(event, args):
    if event == "os.link" and str(args[1]).endswith(".pt"):
        with open(here / "written", "a") as file:
            file.write(f"{args[1]}\\n")

if "PYTEST_XDIST_WORKER" in os.environ or "WRITE_DOWN" in os.environ:
    sys.addaudithook(write_down)  # for ever, so not in a test's own process
"""
"""A conftest that writes down each checkpoint that a worker puts in its place."""


def written(folder, store):
    """The checkpoints, relative to the store, as often as they were put there."""
    path = folder / "written"
    lines = path.read_text().splitlines() if path.exists() else []
    return [os.path.relpath(line, store) for line in lines]


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def benchmarks(path):
    """Those of a benchmark JSON, which has no nan."""
    return json.loads(path.read_text(), parse_constant=pytest.fail)["benchmarks"]


def on_a_terminal(args, folder, seconds=120, send=None, **environment):
    """Run pytest on a pseudo-terminal; its output. `send(pid, output)` may act meanwhile."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*PYTEST, *args],
        cwd=folder,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"} | environment,
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
    )
    os.close(other_end)
    output, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                output += os.read(terminal, 65536)
            except OSError:  # the other side is closed: the process has ended
                break
        if send:
            send(process.pid, output.decode(errors="replace"))
    os.close(terminal)
    return output.decode(), process.wait()


def screen(output):
    """What is left on the screen: a small terminal that knows save, restore and erase."""
    lines, row, column, saved = [""], 0, 0, (0, 0)
    for part in re.findall(
        r"\0337|\0338|\033\[K|\033\[[0-9;?]*[a-zA-Z]|\r|\n|[^\033\r\n]+", output
    ):
        if part == "\0337":
            saved = (row, column)
        elif part == "\0338":
            row, column = saved
        elif part == "\033[K":
            lines[row] = lines[row][:column]
        elif part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        elif not part.startswith("\033"):
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return "\n".join(line.rstrip() for line in lines)
