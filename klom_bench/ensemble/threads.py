"""Packs side by side: one thread a core on the CPU, one thread on a GPU."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


class Stopped(Exception):
    """Work was given up because another thread failed or the run was interrupted."""


def thread_count(device: torch.device) -> int:
    """Threads that work at a time; torch's own setting (OMP_NUM_THREADS) is respected."""
    return torch.get_num_threads() if device.type == "cpu" else 1


Check = Callable[[], None]


def each(items: Sequence[S], work: Callable[[S, Check], T], device: torch.device) -> list[T]:
    """work(item, check) for every item, side by side; results in the order of the items."""
    waiting = list(enumerate(items))
    results: dict[int, T] = {}

    def take(check: Check) -> None:
        while waiting:
            check()
            try:
                i, item = waiting.pop(0)
            except IndexError:  # another thread took the last one
                return
            results[i] = work(item, check)

    side_by_side(take, min(thread_count(device), len(items)), device)
    return [results[i] for i in range(len(items))]


def side_by_side(work: Callable[[Check], T], count: int, device: torch.device) -> list[T]:
    """Run work(check) in `count` threads and return what each returned.

    `check` raises Stopped once another thread has failed or the caller was interrupted: call it
    between steps. Each thread computes with one core, so that results do not depend on how many
    there are.
    """
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise Stopped

    def run() -> T:
        if device.type == "cpu":
            torch.set_num_threads(1)
        return work(check)

    with ThreadPoolExecutor(count, thread_name_prefix="klom") as pool:
        futures = [pool.submit(run) for _ in range(count)]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
        failed = [f for f in futures if f in done and f.exception() is not None]
        if failed:
            failed[0].result()  # raises
    return [future.result() for future in futures]
