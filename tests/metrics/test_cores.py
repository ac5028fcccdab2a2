import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import ThreadpoolController

from klom_bench.metrics.cores import cores, together


def test_cores_are_those_that_this_process_was_told_to_use(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert cores() == 3
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cores() == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cores() == os.cpu_count()


def test_parts_run_at_a_time_and_come_back_in_their_order(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    both = threading.Barrier(2, timeout=30)  # broken, and an error, where one waits alone
    first, second = together(lambda: (both.wait(), "first"), lambda: (both.wait(), "second"))
    assert (first[1], second[1]) == ("first", "second")


def test_each_computes_with_one_core_and_products_of_others_do_not():
    blas = ThreadpoolController().select(internal_api="openblas")

    def threads():  # scipy has an OpenBLAS of its own
        return {one["num_threads"] for one in blas.info() if "numpy" in one["filepath"]}

    if not threads():
        pytest.skip("NumPy of this machine has no OpenBLAS")
    with blas.limit(limits=3):
        assert together(threads, lambda: together(threads)) == [{1}, [{1}]]
        assert threads() == {3}
        with ThreadPoolExecutor(1) as other:  # which must not tell others what they are to use
            assert other.submit(together, threads).result() == [{3}]


def test_an_error_arrives_as_itself_and_what_has_not_begun_never_does(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    begun = []

    def fails():
        raise ZeroDivisionError("of a part")

    def slow():  # long enough for the rest to be called off
        begun.append("slow")
        time.sleep(0.5)

    with pytest.raises(ZeroDivisionError, match="of a part"):
        together(fails, slow, lambda: begun.append("never"))
    assert "never" not in begun
