"""One process of `klom train -n`: trains beside others, and tells who started it how far it is."""

import json
import os
import signal
import threading
import time
import traceback
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from klom_bench.cli.common import device_of, what_failed
from klom_bench.cli.train import asked, shard_of
from klom_bench.errors import KlomError
from klom_bench.interrupt import as_interrupt
from klom_bench.progress import Tick

PATIENCE_SECONDS = 10
"""How long a process that is told to end may take for it: it ends between two epochs."""


def work(job: Mapping[str, Any]) -> int:
    """Do a job, the options of `klom train`; the exit code.

    Standard output is for what is told: an object of JSON a line. The process ends when standard
    input does.
    """
    pipe = os.dup(1)
    os.dup2(2, 1)  # what anybody prints is not told

    def tell(**event: Any) -> None:
        with suppress(BrokenPipeError):  # nobody listens any more, so this process is ending
            os.write(pipe, json.dumps(event).encode() + b"\n")

    @contextmanager
    def announce(label: str, members: int) -> Iterator[Tick]:
        tell(begun=[label, members])
        yield lambda amount: tell(trained=float(amount))

    threading.Thread(target=end_with_input, daemon=True).start()
    warnings.showwarning = lambda message, *_, **__: tell(warning=str(message))
    args = Namespace(**{**job, "store": job["store"] and Path(job["store"])})
    try:
        with as_interrupt():
            store, wanted = asked(args)
            store.complete(wanted, device_of(args), announce, shard_of(args.shard))
    except KeyboardInterrupt:
        return 128 + signal.SIGTERM
    except (KlomError, OSError) as error:
        tell(error=what_failed(error))
        return 1
    except Exception:
        tell(error=f"a process failed\n{traceback.format_exc()}")
        return 1
    return 0


def end_with_input() -> None:
    """End this process when standard input ends: its parent asks for it so, or is no more."""
    while os.read(0, 1024):
        pass
    # To the main thread, which may wait for others and hear nothing else.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(PATIENCE_SECONDS)
    os._exit(1)
