"""What unlearning takes, without what is read before it and computed after it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False)
class Clock:
    """A timer that runs only while members are unlearned: `clock()` are the seconds so far.

    read: the timer that it follows.
    """

    read: Callable[[], float] = time.perf_counter
    seconds: float = 0.0

    def __call__(self) -> float:
        """Seconds that it ran."""
        return self.seconds

    @property
    def __name__(self) -> str:
        """That of the timer, as pytest-benchmark writes it down."""
        return getattr(self.read, "__name__", str(self.read))

    @contextmanager
    def running(self) -> Iterator[None]:
        """It runs for as long as this lasts."""
        start = self.read()
        try:
            yield
        finally:
            self.seconds += self.read() - start
