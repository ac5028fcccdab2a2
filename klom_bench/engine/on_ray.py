"""Packs on the nodes of a cluster, by Ray."""

import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import torch

from klom_bench.engine.cluster import connected, disconnected, send_own_modules
from klom_bench.engine.copied import copied
from klom_bench.engine.engine import nothing
from klom_bench.engine.worker import Later, Outcome, compute
from klom_bench.errors import KlomError, warn
from klom_bench.tasks.travelling import leaving

S = TypeVar("S")
T = TypeVar("T")

A_SLOT = 2
"""Packs that are on their way for each that is computed: the next is there when one is done."""
RETRIES = 3
"""How often a pack is begun anew that was lost with its process or its node."""
PATIENCE = 30.0
"""Seconds without a result after which it is asked whether any node can compute one still."""


@dataclass(eq=False)
class OnRay:
    """The engine of a cluster, which is started or connected to when it is first needed.

    gpu_share: of a GPU, for each pack; 0.25 has four share one. asked: the device that was asked
    for.
    """

    gpu_share: float = 1.0
    asked: str = "auto"
    _ray: Any = None
    _is_mine: bool = False
    _task: Any = None
    _brought: dict[str, Later] = field(default_factory=dict)
    _said: set[object] = field(default_factory=set)
    _waits: bool = False

    here = False

    def device(self, own: torch.device) -> torch.device:
        """A GPU where the cluster has any, unless a CPU was asked for."""
        has_gpus = self.asked != "cpu" and self._total("GPU") > 0
        if self.asked.startswith("cuda") and not has_gpus:
            raise KlomError(f"device {self.asked}: no node of Ray's cluster has a GPU")
        return torch.device("cuda" if has_gpus else "cpu")

    def slots(self, device: torch.device) -> int:
        """As many as there are cores, on GPUs no more than their shares; at least one."""
        found = self._total("CPU")
        if device.type == "cuda":
            found = min(found, self._total("GPU") / self.gpu_share)
        return max(1, int(found + 1e-6))

    def map(
        self,
        function: Callable[[S, Any], T],
        items: Iterable[S],
        device: torch.device,
        read: Callable[[S], Any] = nothing,
    ) -> Generator[tuple[S, T], None, None]:
        """As of `Engine`. A pack whose process or node dies is begun anew, three times."""
        ray = self._started()
        on_gpu = {"num_gpus": self.gpu_share} if device.type == "cuda" else {}
        task = self._task.options(**on_gpu)
        send_own_modules()
        with leaving(self._bring):
            place = self._put(function)
        waiting, running = iter(items), dict[Any, S]()
        try:
            while True:
                free = A_SLOT * self.slots(device) - len(running)  # below 0 where a node was lost
                for item in islice(waiting, max(0, free)):
                    given = item, read(item)
                    with leaving(self._bring):
                        running[task.remote([place], copied(given))] = item
                if not running:
                    return
                done, _ = ray.wait([*running], timeout=PATIENCE)
                if not done:
                    self._say_if_nobody_can(device)
                for one in done:
                    yield running.pop(one), self._result(one)
        finally:
            for one in running:
                with suppress(ray.exceptions.RayError):  # of a cluster that is gone: why was said
                    ray.cancel(one, force=True)  # an interrupt may leave half an import behind

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._ray and self._is_mine:
            disconnected()
        self._ray = self._task = None
        self._brought.clear()

    def _started(self) -> Any:
        if not self._ray:
            self._ray, self._is_mine = connected()
            # Without max_calls=0 a process that has used a GPU would end after each pack.
            # Nor would nodes be used evenly: what waits for one stays there though others are free.
            self._task = self._ray.remote(
                num_cpus=1, max_retries=RETRIES, max_calls=0, scheduling_strategy="SPREAD"
            )(compute)
        return self._ray

    def _say_if_nobody_can(self, device: torch.device) -> None:
        kinds = ("CPU", "GPU") if device.type == "cuda" else ("CPU",)
        lost = [kind for kind in kinds if not self._total(kind)]
        if lost and not self._waits:
            self._waits = True
            warn(
                f"no node of Ray's cluster has a {lost[0]} any more: packs wait until one joins. "
                "Ctrl-C ends this, and what is finished is kept"
            )

    def _total(self, kind: str) -> float:
        return float(self._started().cluster_resources().get(kind, 0))

    def _bring(self, token: str, value: Any) -> Later:
        """Where it lies in the cluster's memory: it is put there once."""
        if token not in self._brought:
            self._brought[token] = Later(self._put(value))
        return self._brought[token]

    def _put(self, value: Any) -> Any:
        try:
            return self._ray.put(copied(value))
        except KlomError:
            raise
        except Exception as error:  # pickle has errors of many kinds
            first = str(error).strip().partition("\n")[0]
            raise KlomError(
                f"a task or a method cannot be sent to the processes of Ray: {first}. What "
                "functions use must be picklable: open files, locks and generators are not"
            ) from error

    def _result(self, done: Any) -> Any:
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(done)
        except errors.RayTaskError as error:  # before or after what `compute` sees to
            last = str(error).strip().rpartition("\n")[2]
            raise KlomError(
                f"a process of Ray could not be used: {last}. All nodes need the same Python, "
                "klom-bench, torch and packages of yours"
            ) from error
        except errors.RayError as error:
            first = str(error).strip().partition("\n")[0]
            raise KlomError(
                f"a pack was begun {RETRIES + 1} times, and each time its process or its node was "
                f"lost ({type(error).__name__}: {first}). Was there too little memory? What was "
                "finished is kept, and the same command goes on"
            ) from error
        for message, kind, file, line in outcome.warnings:
            if (message, file, line) not in self._said:
                self._said.add((message, file, line))
                warnings.warn_explicit(message, kind, file, line)
        if outcome.failure:
            raise outcome.failure.error()
        return outcome.result
