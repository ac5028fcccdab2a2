"""The processes of `klom train -n`: started, listened to, and ended together.

They are started as commands, not by multiprocessing: so each finds its environment before Python
begins, and nothing of the program that called is run again. The store shares out the work. Each
reads its job from a pipe that stays open: it ends when the pipe does, even if nobody could tell it.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any

from klom_bench.cli.worker import PATIENCE_SECONDS
from klom_bench.ensemble.processes import environments
from klom_bench.errors import KlomError, warn
from klom_bench.progress import WAITING, Announce, Tick

# With -P and this process's path, nothing is imported from the current folder by accident.
START = """\
import json, sys
sys.path[:], job = json.loads(sys.stdin.readline() or sys.exit(1))
from klom_bench.cli.worker import work
sys.exit(work(job))
"""
Events = SimpleQueue[Mapping[str, Any]]


def train_in_processes(count: int, args: argparse.Namespace, announce: Announce) -> bool:
    """Do the work of `klom train` in so many processes; False where all were killed at it.

    One that is killed is a warning, as its members are trained by the others. KlomError with the
    message of the first that fails.
    """
    running, finished = count, False
    left = 0.0
    tick: Tick | None = None
    said: set[str] = set()
    with ExitStack() as display, started(count, args) as (events, pids):
        while running:
            match events.get():
                case {"begun": [str(label), int(members)]} if tick is None:
                    # Who looks first finds all that is lacking, the others what is left by then.
                    left = members
                    tick = display.enter_context(announce(f"{label} in {count} processes", members))
                case {"begun": [str(label), _]} if label.startswith(WAITING) and label not in said:
                    said.add(label)
                    if not any(f" {pid} on " in label for pid in pids):  # they wait for others
                        warn(label)
                case {"trained": float(amount)} if tick is not None:
                    # What was lost with a killed process is trained, and told, twice.
                    amount = min(amount, left)
                    left -= amount
                    tick(amount)
                case {"warning": str(text)} if text not in said:
                    said.add(text)
                    warn(text)
                case {"error": str(text)}:
                    raise KlomError(text)
                case {"ended": int(code)}:
                    running -= 1
                    finished = finished or code == 0
                    if code:
                        others = "; the others go on" if running else ""
                        warn(f"a process was ended before it was done ({why(code)}){others}")
    return finished


@contextmanager
def started(count: int, args: argparse.Namespace) -> Iterator[tuple[Events, list[int]]]:
    """What the processes tell, and their ids, while they live: none of them outlives this."""
    import torch

    job = {name: value for name, value in vars(args).items() if name != "run"}
    job["store"] = args.store and str(args.store)
    events: Events = SimpleQueue()
    workers: list[subprocess.Popen[str]] = []
    try:
        for environment in environments(count, args.device, torch.get_num_threads()):
            workers.append(start(job, environment))
            Thread(target=listen, args=(workers[-1], events), daemon=True).start()
        yield events, [worker.pid for worker in workers]
    finally:
        end(workers)


def start(job: Mapping[str, Any], environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """A process that has its job."""
    # Ctrl-C reaches all processes of a terminal. This one answers, and ends the others.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        worker = subprocess.Popen(
            [sys.executable, "-P", "-c", START],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    assert worker.stdin is not None
    with suppress(BrokenPipeError):  # it has ended already, which is told as the end of others is
        worker.stdin.write(json.dumps([sys.path, job]) + "\n")
        worker.stdin.flush()
    return worker


def listen(worker: subprocess.Popen[str], events: Events) -> None:
    """Pass on what a process tells, and in the end how it ended."""
    assert worker.stdout is not None
    try:
        for line in worker.stdout:
            events.put(json.loads(line))
    finally:
        events.put({"ended": worker.wait()})


def end(workers: list[subprocess.Popen[str]]) -> None:
    """Ask all to end, by the pipe; kill those that do not."""
    for worker in workers:
        with suppress(BrokenPipeError):
            worker.stdin.close()  # type: ignore[union-attr]
    until = time.monotonic() + PATIENCE_SECONDS
    for worker in workers:
        try:
            worker.wait(max(0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def why(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    memory = ": was there too little memory?" if -code == signal.SIGKILL else ""
    return f"{signal.strsignal(-code)}{memory}"
