"""What does not depend on each other, computed side by side: NumPy leaves Python meanwhile."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def cores() -> int:
    """That this process may use: what torch was told, where it is imported, or OMP_NUM_THREADS."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(told)) if told.isdigit() else os.cpu_count() or 1


def together(*parts: Callable[[], Any]) -> list[Any]:
    """What each part returns, in their order; as many at a time as there are cores.

    The first error ends it, once the parts that have begun are done.
    """
    with _one_core_each(), ThreadPoolExecutor(cores(), thread_name_prefix="klom") as pool:
        begun = [pool.submit(part) for part in parts]
        try:
            return [one.result() for one in begun]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _one_core_each() -> Iterator[None]:
    """OpenBLAS's products in one thread each: last bits do not depend on the number of cores, and
    none of its threads waits for the next product on a core of ours.

    The whole process is told so, hence by the main thread only.
    """
    if threading.current_thread() is threading.main_thread():
        with _blas().limit(limits=1):
            yield
    else:
        yield


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(internal_api="openblas")
