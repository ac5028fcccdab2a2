"""Imports that are large enough to be waited for."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """Import here what is large and stays: the garbage collector rests, and leaves it alone later.

    torch and its compiler are half a million objects and no garbage. Without this the collector
    goes through them again and again, and pytest makes it do so five times at its end: 2.5 of the
    6.7 s of a warm run of one small test (measured).
    """
    rests, before = not gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > before:  # once: what is frozen is never collected
            gc.freeze()
        if not rests:
            gc.enable()
