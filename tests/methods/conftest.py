import pytest
import torch


@pytest.fixture
def double():
    """Double precision: Adam makes rounding of gradients that should be 0 as large as a step."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
