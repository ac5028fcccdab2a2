"""Global random states, which all threads of a process share: one thread at a time uses them."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from klom_bench.ensemble.seeds import member_seed

# Whoever holds it may build modules, whose weights are drawn from it, too: hence reentrant.
_GLOBAL_RANDOM_STATE = threading.RLock()


@contextmanager
def alone_with_randomness(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """torch's global random state, set to this seed and afterwards as it was; safe in threads.

    device: that whose generator is set, too, where it has one of its own.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        for one in devices:
            _of_cuda(one).manual_seed(seed)
        yield


class OwnRandomness:
    """Global random states of torch, NumPy and Python that one member's function draws from.

    So that ordinary code, as a DataLoader that shuffles, is repeatable whatever runs beside it.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        with _GLOBAL_RANDOM_STATE:
            before = self._read()
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                _of_cuda(device).manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            self.now = self._read()
            self._set(before)

    @classmethod
    def of(cls, generator: torch.Generator, device: torch.device) -> "OwnRandomness":
        """Of the member with this stream, which stays where it is."""
        return cls(member_seed("global", generator.initial_seed()), device)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """These states, as they were left the last time."""
        with _GLOBAL_RANDOM_STATE:
            before = self._read()
            self._set(self.now)
            try:
                yield
            finally:
                self.now = self._read()
                self._set(before)

    def _read(self) -> tuple[Any, ...]:
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        return torch.get_rng_state(), np.random.get_state(), random.getstate(), cuda

    def _set(self, states: tuple[Any, ...]) -> None:
        of_torch, of_numpy, of_python, of_cuda = states
        torch.set_rng_state(of_torch)
        np.random.set_state(of_numpy)
        random.setstate(of_python)
        if of_cuda is not None:
            torch.cuda.set_rng_state(of_cuda, self.device)


def _of_cuda(device: torch.device) -> torch.Generator:
    """The generator of this GPU, which need not be the current one."""
    index: int | None = device.index
    index = torch.cuda.current_device() if index is None else index
    found: torch.Generator = torch.cuda.default_generators[index]
    return found
