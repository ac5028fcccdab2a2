"""Repeats of many cases, shared among processes; each has its own seed, so it is all the same who
does which."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import numpy as np
from calibration.pool import Pool
from calibration.sources import REAL, Source

CHUNK = 20
"""Repeats of one job."""
Run = Callable[[Callable[..., np.ndarray], list[tuple[Any, ...]]], list[np.ndarray]]
"""run(function, arguments): the results, in order."""
Key = tuple[Source, int]
"""A case and N."""


def _know(pools: dict[str, Pool]) -> None:
    REAL.update(pools)


@contextmanager
def workers(count: int) -> Iterator[Run]:
    """Processes that know the pool of this one."""
    with ProcessPoolExecutor(count, get_context("spawn"), _know, (dict(REAL),)) as processes:

        def run(function: Callable[..., np.ndarray], jobs: list[tuple[Any, ...]]) -> list[Any]:
            return list(processes.map(function, *zip(*jobs, strict=True)))

        yield run


def here(function: Callable[..., np.ndarray], jobs: list[tuple[Any, ...]]) -> list[np.ndarray]:
    """The same by this process alone."""
    return [function(*job) for job in jobs]


def drawn(
    run: Run, function: Callable[..., np.ndarray], keys: Sequence[Key], repeats: int, *more: Any
) -> dict[Key, np.ndarray]:
    """function(case, n, range of repeats, *more) -> [repeats, columns], of all repeats a key."""
    parts = [range(i, min(i + CHUNK, repeats)) for i in range(0, repeats, CHUNK)]
    done = iter(run(function, [(*key, part, *more) for key in keys for part in parts]))
    return {key: np.concatenate([next(done) for _ in parts]) for key in keys}
