import os
import signal
import threading
import time

import pytest
import torch

from klom_bench.ensemble.threads import Stopped, each, side_by_side

CPU = torch.device("cpu")


def test_results_come_in_order():
    def work(item, check):
        time.sleep(0.01 * (5 - item))
        return item * item

    assert each(range(5), work, CPU) == [0, 1, 4, 9, 16]


def test_a_failure_stops_the_others_and_is_what_is_raised():
    stopped = []

    def work(check):
        if threading.current_thread().name.endswith("_0"):
            time.sleep(0.05)
            raise ZeroDivisionError("mine")
        try:
            while True:
                time.sleep(0.005)
                check()
        except Stopped:
            stopped.append(True)
            raise

    with pytest.raises(ZeroDivisionError, match="mine"):
        side_by_side(work, 2, CPU)
    assert stopped == [True]


def test_ctrl_c_stops_all_threads():
    def work(check):
        while True:
            time.sleep(0.005)
            check()

    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, 2, CPU)
    assert not [t for t in threading.enumerate() if t.name.startswith("klom")]
