"""A cluster of Ray: the one that RAY_ADDRESS names, else one of this machine."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from klom_bench.errors import KlomError
from klom_bench.tasks.code import is_installed

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_SCHEDULER_EVENTS": "0",
}
"""Ray tells nobody of this run, and says nothing in its terminal."""
NO_ENDLESS_RETRIES = {"RAY_task_oom_retries": "3"}
"""What is too large for a node's memory Ray would begin for ever, and not say so."""
ANSWER_SECONDS = 10.0
"""How long the head of a cluster may take to answer."""


def refuse_without_ray() -> None:
    """KlomError where it is not installed."""
    if find_spec("ray") is None:
        raise KlomError(
            "the engine ray needs Ray, which is not installed: pip install klom-bench[ray]"
        )


def refuse_address() -> str:
    """$RAY_ADDRESS; KlomError where it is not that of a node, or nobody answers.

    Nobody needs one who has called `ray.init` already.
    """
    ray = sys.modules.get("ray")
    if ray and ray.is_initialized():
        return ""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address.startswith("ray://"):
        raise KlomError(
            f"RAY_ADDRESS={address} is for Ray's client, which this is not: start the command on a "
            "node of the cluster with RAY_ADDRESS=HOST:6379, or by `ray job submit`"
        )
    try:
        _knock(address)
    except (OSError, ValueError) as error:
        raise _unusable(address, error) from error
    return address


def _unusable(address: str, error: Exception) -> KlomError:
    where = f"at RAY_ADDRESS={address}" if address else "on this machine"
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return KlomError(
        f"no cluster of Ray could be used {where}: {first}. `ray start --head` starts one; "
        "without RAY_ADDRESS the cores of this machine are used"
    )


def connected() -> tuple[Any, bool]:
    """The module `ray`, connected to a cluster, and whether that was done here.

    Who has called `ray.init` already stays where it is. KlomError where no cluster answers.
    """
    refuse_without_ray()
    for name, value in {**QUIET, **NO_ENDLESS_RETRIES}.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return ray, False
    address = refuse_address()
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    _mute(True)
    try:
        with _handlers_kept():
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(address="local", include_dashboard=False, **quiet)
    except BaseException as error:
        disconnected()
        if isinstance(error, OSError | RuntimeError | ValueError):
            raise _unusable(address, error) from error
        raise
    return ray, True


def disconnected() -> None:
    """Leave the cluster that `connected` has connected to; one that was started there ends."""
    import ray

    ray.shutdown()
    _mute(False)


def _mute(muted: bool) -> None:
    """No setting keeps what Ray says of dead workers out of the terminal: packs are begun anew."""
    from ray._private import worker

    worker._worker_logs_enabled = not muted


def _knock(address: str) -> None:
    """OSError where nobody answers at HOST:PORT: Ray would wait for minutes, and not say so."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()


@contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray sets what ends a process by SIGTERM, and what shows exceptions: they stay as they are.

    Ctrl-C waits until Ray has started: it would be lost, or leave processes behind. A second one
    does not.
    """
    hook, numbers = sys.excepthook, (signal.SIGINT, signal.SIGTERM)
    in_main = threading.current_thread() is threading.main_thread()
    before = {n: h for n in numbers if in_main and (h := signal.getsignal(n)) is not None}
    waits = False

    def interrupted(number: int, frame: Any) -> None:
        nonlocal waits
        if waits:
            signal.signal(number, before[signal.SIGINT])
            signal.raise_signal(number)
        waits = True

    if callable(before.get(signal.SIGINT)):
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        sys.excepthook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        if waits:
            signal.raise_signal(signal.SIGINT)


def send_own_modules() -> None:
    """Have functions and classes of the user's files travel whole: nodes may not have the files.

    What is installed goes by its name.
    """
    from ray import cloudpickle

    for name, module in [*sys.modules.items()]:
        known = getattr(module, "__name__", None) == name and getattr(module, "__file__", None)
        if known and name != "__main__" and not is_installed(name):
            cloudpickle.register_pickle_by_value(module)
