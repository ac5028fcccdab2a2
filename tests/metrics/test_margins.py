import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logit, logsumexp, softmax

from klom_bench import margins


@given(
    z=arrays(np.float64, (3, 7, 5), elements=st.floats(-50, 50)),
    y=arrays(np.int64, 7, elements=st.integers(0, 4)),
)
def test_is_the_log_odds_of_the_right_class(z, y):
    expected = np.array(
        [[row[c] - logsumexp(np.delete(row, c)) for row, c in zip(m, y, strict=True)] for m in z]
    )
    np.testing.assert_allclose(margins(z, y), expected, rtol=0, atol=1e-12)
    tensor = margins(torch.from_numpy(z), torch.from_numpy(y))
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=0, atol=1e-12)


def test_agrees_with_the_probability():
    z, y = np.random.default_rng(0).normal(size=(20, 10)), np.arange(20) % 10
    right = softmax(z, axis=1)[np.arange(20), y]
    np.testing.assert_allclose(margins(z, y), logit(right), atol=1e-12)


def test_two_classes_are_a_difference():
    z = np.array([[3.0, 1.0], [0.5, 4.0]])
    np.testing.assert_allclose(margins(z, np.array([0, 1])), [2.0, 3.5])


def test_half_precision_is_computed_in_single():
    z = torch.randn(4, 6, 10, generator=torch.Generator().manual_seed(0)).half()
    y = torch.arange(6)
    found = margins(z, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, margins(z.float(), y))


def test_whole_numbers_lose_nothing():
    z = np.array([[2**40, 2**40 - 1]])
    np.testing.assert_allclose(margins(z, np.array([0])), [1.0])
    np.testing.assert_allclose(margins(torch.from_numpy(z), torch.tensor([0])), [1.0])


def test_far_apart_logits_do_not_overflow():
    z = np.array([[1e4, -1e4, 0.0]], np.float32)
    np.testing.assert_allclose(margins(z, np.array([0])), [1e4])


@pytest.mark.parametrize(
    ("z", "y", "message"),
    [
        (np.zeros((4, 3)), np.zeros(5, int), "labels have shape"),
        (np.zeros((4, 1)), np.zeros(4, int), "at least 2 classes"),
        (np.zeros((4, 3)), np.array([0, 1, 2, 3]), r"labels must lie in 0\.\.2"),
        (np.zeros((4, 3)), np.array([0, 1, 2, -1]), r"labels must lie in 0\.\.2"),
        (np.zeros((2, 3)), np.array([0.5, 1.5]), "labels: integers are expected, not float64"),
        (np.zeros((2, 3)), np.array([0.0, 1.0]), "labels: integers are expected"),
        (np.zeros((2, 3)), np.array([True, False]), "labels: integers are expected, not bool"),
        (np.zeros((2, 3)), np.ma.masked_array([0, 1], [0, 1]), "labels: a masked array"),
        (np.ma.masked_array(np.zeros((2, 3))), np.array([0, 1]), "logits: a masked array"),
        (np.zeros((2, 3)) + 1j, np.array([0, 1]), "logits: real numbers are expected, not complex"),
        (np.zeros(3), np.array([1]), r"logits must be \[\.\.\., points, classes\], got \(3,\)"),
        (torch.zeros(2, 3), torch.tensor([0.0, 1.0]), "labels: integers are expected"),
        (torch.zeros(2, 3), torch.tensor([True, False]), "labels: integers are expected"),
    ],
)
def test_refuses_what_does_not_fit(z, y, message):
    with pytest.raises(ValueError, match=message):
        margins(z, y)
