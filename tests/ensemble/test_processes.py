"""Who gets which GPU and how many threads; the GPUs are made up."""

import pytest
import torch

from klom_bench.ensemble.processes import environments, gpus


@pytest.fixture
def with_gpus(monkeypatch):
    def pretend(count, given=None):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        if given is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)

    return pretend


@pytest.mark.parametrize(
    ("given", "count", "found"),
    [
        ("MIG-a,MIG-b,MIG-c", 1, ["MIG-a", "MIG-b", "MIG-c"]),
        ("MIG-a, MIG-b", 0, []),
        ("GPU-aa, 7,3", 2, ["GPU-aa", "7"]),
        ("4", 1, ["4"]),
        (None, 2, ["0", "1"]),
    ],
)
def test_gpus_as_the_caller_names_them(with_gpus, given, count, found):
    """CUDA counts one slice of a MIG GPU, however many a process is given."""
    with_gpus(count, given)
    assert gpus("auto") == found


def visible(found):
    return [environment.get("CUDA_VISIBLE_DEVICES") for environment in found]


def test_each_process_gets_a_gpu_in_turn_and_its_share_of_threads(with_gpus):
    with_gpus(2, "GPU-aa,5,6")
    found = environments(3, "cuda", 8)
    assert visible(found) == ["GPU-aa", "5", "GPU-aa"]
    assert [environment["OMP_NUM_THREADS"] for environment in found] == ["3", "3", "2"]


@pytest.mark.parametrize(("device", "threads"), [("cpu", 1), ("cuda:1", 2)])
def test_where_one_device_is_named_it_is_that_of_all(with_gpus, device, threads):
    """Named by a number it is counted among the same GPUs as in the process that starts them."""
    with_gpus(2)
    assert environments(2, device, threads) == [{"OMP_NUM_THREADS": "1"}] * 2
