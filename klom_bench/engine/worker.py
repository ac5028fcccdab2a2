"""What a worker process of a cluster does: one pack at a time, and it tells what went wrong."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from klom_bench.engine.copied import copied
from klom_bench.engine.failure import Failure
from klom_bench.ensemble.device import as_on_a_cpu
from klom_bench.tasks.travelling import kept

JOBS = 2
"""Functions that a process keeps, with what they have made."""
_jobs: dict[str, Callable[[Any, Any], Any]] = {}


@dataclass(frozen=True)
class Outcome:
    """What became of a pack: a result or an error, and (message, kind, file, line) of warnings."""

    result: Any = None
    failure: Failure | None = None
    warnings: Sequence[tuple[str, type[Warning], str, int]] = ()


@dataclass(frozen=True)
class Later:
    """Reads from the cluster's memory what was kept there."""

    place: Any

    def __call__(self) -> Any:
        """What lies there."""
        import ray

        return ray.get(self.place)


def compute(places: Sequence[Any], given: tuple[Any, Any]) -> Outcome:
    """What the function that is kept at the first of these places makes of (item, what was read).

    A process computes with one core, as a thread of a local run does, and keeps functions: their
    tasks, data and captured graphs are there for the next pack.
    """
    torch.set_num_threads(1)
    as_on_a_cpu()
    with warnings.catch_warnings(record=True) as said:
        try:
            result = copied(_job(places[0])(*given))
            return Outcome(result, warnings=_told(said))
        except BaseException as error:  # SystemExit would end the process, and the pack begin anew
            return Outcome(failure=Failure.of(error), warnings=_told(said))


def _job(place: Any) -> Callable[[Any, Any], Any]:
    return kept(_jobs, JOBS, place.hex(), Later(place))


def _told(said: Sequence[warnings.WarningMessage]) -> list[tuple[str, type[Warning], str, int]]:
    return [(str(w.message), w.category, w.filename, w.lineno) for w in said]
