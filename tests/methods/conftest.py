import pytest
import torch


@pytest.fixture
def double():
    """Double precision: Adam makes rounding of gradients that should be 0 as large as a step.

    One thread: with more, workers of xdist wait for each other at every small step.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(threads)
