"""Packs in threads of this process: one a core on the CPU, one on a GPU."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import torch

from klom_bench.engine.engine import nothing
from klom_bench.ensemble.threads import thread_count

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Threads:
    """The engine of one machine. Each thread computes with one core, as results depend on that."""

    here = True

    def device(self, own: torch.device) -> torch.device:
        """This process's."""
        return own

    def slots(self, device: torch.device) -> int:
        """Threads."""
        return thread_count(device)

    def map(
        self,
        function: Callable[[S, Any], T],
        items: Iterable[S],
        device: torch.device,
        read: Callable[[S], Any] = nothing,
    ) -> Generator[tuple[S, T], None, None]:
        """As of `Engine`."""

        def work(item: S) -> T:
            if device.type == "cpu":
                torch.set_num_threads(1)
            return function(item, read(item))

        waiting, running = iter(items), dict[Future[T], S]()
        count = thread_count(device)
        with ThreadPoolExecutor(count, thread_name_prefix="klom") as pool:
            while True:
                for item in islice(waiting, count - len(running)):
                    running[pool.submit(work, item)] = item
                if not running:
                    return
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()

    def close(self) -> None:
        """Threads end with their work."""


HERE = Threads()
