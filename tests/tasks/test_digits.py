from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from klom_bench.cell.measure import measure
from klom_bench.forget_set import checked_forget_set
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS, DIGITS_CNN
from klom_bench.tasks.make_digits_forget_sets import ANCHOR, influence

SIZES = {1: 10, 2: 50, 3: 100, 4: 10, 5: 50, 6: 100, 7: 10, 8: 50, 9: 100, 10: 50}


def members(k):
    return set(DIGITS.forget_set(f"forget_set_{k}").indices.tolist())


def test_are_scikit_learns_digits():
    data, digits = DIGITS.data, load_digits()
    assert len(data.y_train) == DIGITS.train_points
    x = torch.cat([data.x_train, data.x_val])
    assert len(x) == len(data.y()) == 1797
    mean, std = data.x_train.mean(0), data.x_train.std(0)
    torch.testing.assert_close(mean, torch.zeros(64), rtol=0, atol=1e-5)
    assert set(std.round(decimals=4).tolist()) == {0.0, 1.0}

    def ranked(pixels, labels):
        """Images by the rank of each pixel's value, which standardising does not change."""
        ranks = [np.unique(column, return_inverse=True)[1] for column in pixels.T]
        return sorted(map(tuple, np.column_stack([*ranks, labels]).tolist()))

    assert ranked(x.numpy(), data.y().numpy()) == ranked(digits.data, digits.target)


def test_the_split_is_stratified_and_fixed():
    data = DIGITS.data
    for c in range(10):
        whole = int((data.y() == c).sum())
        assert int((data.y_val == c).sum()) == round(whole / 5)
    assert data.sha256 == DIGITS.load().sha256


@pytest.mark.parametrize(("k", "size"), SIZES.items())
def test_forget_sets_have_their_sizes(k, size):
    found = DIGITS.forget_set(f"forget_set_{k}")
    assert len(found) == size
    assert np.all(np.diff(found.indices) > 0)
    np.testing.assert_array_equal(
        np.union1d(found.indices, found.retain), np.arange(DIGITS.train_points)
    )


def test_forget_sets_are_nested_as_the_published_ones():
    assert members(4) < members(5) < members(6)
    assert members(7) < members(8) < members(9)


def test_random_sets_are_those_of_their_seeds():
    for k, size in ((1, 10), (2, 50), (3, 100)):
        drawn = np.random.RandomState(k - 1).choice(DIGITS.train_points, size, replace=False)
        assert members(k) == set(drawn.tolist())


def test_set_10_holds_the_nearest_neighbours():
    x = DIGITS.data.x_train
    nearest = (x - x[ANCHOR]).norm(dim=1).argsort()[:50]
    assert members(10) == set(nearest.tolist())


def test_influence_is_found_where_it_was_put():
    """Models whose margin on point j is 3 higher where they saw point i, for one pair (i, j)."""
    rng = np.random.default_rng(0)
    seen = rng.random((4000, 6)) < 0.5
    margins = rng.normal(size=(4000, 6))
    margins[:, 4] += 3 * seen[:, 2]
    a = influence(seen, margins)
    assert a[2, 4] == pytest.approx(3, abs=0.15)
    a[2, 4] = 0
    assert np.abs(a).max() < 0.15


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([], "at least one entry"),
        ([0.5], "integer indices"),
        ([[1, 2]], "must be a list"),
        ([3, 1, 3], "holds index 3 more than once"),
        ([-1, 2], "has index -1"),
        ([5, 10], r"has index 10, the train points are 0\.\.9: does it belong to another"),
        (range(10), "nothing is left to retain"),
    ],
)
def test_bad_forget_sets_are_refused(indices, message):
    with pytest.raises(ValueError, match=message):
        checked_forget_set("mine", np.array(indices), 10)


def test_forget_sets_are_sorted_and_hashed():
    a, b = (checked_forget_set("mine", i, 10) for i in ([4, 2, 9], [2, 4, 9]))
    assert a.sha256 == b.sha256
    assert a.indices.tolist() == [2, 4, 9]


def test_the_conv_task_has_the_same_points_as_images():
    flat, images = DIGITS.data, DIGITS_CNN.data
    assert images.x_train.shape == (1438, 1, 8, 8)
    torch.testing.assert_close(images.x_val.flatten(1), flat.x_val, rtol=0, atol=0)
    assert torch.equal(images.y(), flat.y())
    assert list(DIGITS_CNN.forget_sets) == list(DIGITS.forget_sets)
    assert DIGITS_CNN.has_conv
    assert not DIGITS.has_conv


def test_methods_for_conv_layers_run_there(cell, small_store):
    """Two members each, on a set that oracles know less of: what comes out is a classifier still."""
    for name in ("ct", "msg"):
        asked = replace(cell(name, forget_set="forget_set_5", members=2, lr=0.01), task=DIGITS_CNN)
        record = measure(asked, Store(small_store))
        assert record.accuracy_do_nothing["val"] > 0.97
        assert record.accuracy_oracle["forget"] < 1.0
        assert record.accuracy["val"] > 0.9
        assert 0 < record.relative_cost["examples"] < 0.7


def test_all_nines():
    rows = DIGITS.forget_set("class_9").indices
    np.testing.assert_array_equal(rows, np.flatnonzero(DIGITS.data.y_train.numpy() == 9))
    assert DIGITS.is_class(DIGITS.forget_set("class_9"))
    assert not any(DIGITS.is_class(DIGITS.forget_set(f"forget_set_{k}")) for k in SIZES)
