"""What is wrong with the data or the model of a task is told in one message, before training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import klom_bench
from klom_bench.errors import KlomError
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS, DIGITS_CNN
from klom_bench.tasks.data import Data
from klom_bench.tasks.digits import load
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")
GOOD = load()


def nan_at_3(x):
    x = x.clone()
    x[3, 5] = torch.nan
    return x


DATA = {
    "float labels": (
        {"y_train": GOOD.y_train.float()},
        "y_train is torch.float32; classes as torch.int64 .*multi_label, regression",
    ),
    "int32 labels": ({"y_val": GOOD.y_val.int()}, r"y_val is torch.int32; .*y\.long\(\)"),
    "bool labels": ({"y_train": GOOD.y_train > 4}, "y_train is torch.bool"),
    "multi-label": (
        {"y_train": nn.functional.one_hot(GOOD.y_train)},
        r"y_train has shape \(1438, 10\); one label a point.*multi_label",
    ),
    "double inputs": (
        {"x_train": GOOD.x_train.double(), "x_val": GOOD.x_val.double()},
        r"models would get torch.float64; torch.float32 \(x.float\(\)\)",
    ),
    "half inputs": (
        {"x_train": GOOD.x_train.half(), "x_val": GOOD.x_val.half()},
        "models would get torch.float16",
    ),
    "raw bytes": (
        {"x_train": GOOD.x_train.byte(), "x_val": GOOD.x_val.byte()},
        "models would get torch.uint8",
    ),
    "two kinds": (
        {"x_val": GOOD.x_val.double()},
        "x_train is torch.float32 of 2 dimensions, x_val",
    ),
    "complex": ({"x_train": GOOD.x_train + 0j, "x_val": GOOD.x_val + 0j}, ".*complex64; real"),
    "NumPy": (
        {"x_train": {"x": GOOD.x_train.numpy()}},
        r"x_train\['x'\] is a ndarray.*torch.from_num",
    ),
    "a dict": (
        {"x_train": {"ids": GOOD.x_train}},
        r"x_train is \['ids'\] torch.float32 of 2 dim.*, x_val torch.float32",
    ),
    "nan": (
        {"x_train": nan_at_3(GOOD.x_train)},
        r"x_train holds nan or inf \(the first at point 3",
    ),
    "inf in val": ({"x_val": GOOD.x_val / 0}, "x_val holds nan or inf"),
    "other counts": ({"y_val": GOOD.y_val[:-1]}, "x_val has 359 points and y_val 358 labels"),
    "negative": ({"y_val": GOOD.y_val - 1}, "y_val has the label -1"),
    "no val": ({"x_val": GOOD.x_val[:0], "y_val": GOOD.y_val[:0]}, r"y_val has shape \(0,\)"),
    "one class": ({"y_train": torch.zeros_like(GOOD.y_train)}, "all train points have one label"),
    "gradients": ({"x_train": GOOD.x_train.clone().requires_grad_()}, ".*requires gradients"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_used(tmp_path, name):
    changes, text = DATA[name]
    task = replace(DIGITS, name="mine", load=lambda: replace(GOOD, **changes))
    with pytest.raises(KlomError, match=rf"^the data of task mine: {text}"):
        Store(tmp_path).complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert not list(tmp_path.rglob("*.pt"))


def fails(_=None):
    raise FileNotFoundError("data.csv")


@pytest.mark.parametrize(
    ("load", "text"),
    [
        (fails, "`load` failed: FileNotFoundError: data.csv .*test_checks.py"),
        (lambda: replace(GOOD, prepare=fails), "`prepare` failed: FileNotFoundError"),
        (lambda: replace(GOOD, prepare=lambda x: x[:1]), "`prepare` makes 1 points of 64"),
        (lambda: replace(GOOD, prepare=lambda x: x.log()), "`prepare` makes nan or inf"),
        (lambda: replace(GOOD, x_train=GOOD.x_train.to_sparse()), "torch.sparse_coo; a dense"),
    ],
)
def test_functions_that_fail_or_make_no_sense(tmp_path, load, text):
    task = replace(DIGITS, name="mine", load=load)
    with pytest.raises(KlomError, match=rf"^the data of task mine: .*{text}"):
        Store(tmp_path).complete([(EnsembleId(task, "original", 0), 2)], CPU)


def test_data_that_are_read_anew_are_hashed_anew():
    later = iter([GOOD, replace(GOOD, x_train=GOOD.x_train + 1)])
    task = replace(DIGITS, load=lambda: next(later))
    first = task.data_hashes["x_train"]
    task.forget_data()
    assert task.data_hashes["x_train"] != first


def test_load_that_gives_something_else(tmp_path):
    task = replace(DIGITS, name="mine", load=lambda: (GOOD.x_train, GOOD.y_train))
    with pytest.raises(KlomError, match=r"`load` gave a tuple; a .*Data is expected"):
        Store(tmp_path).complete([(EnsembleId(task, "original", 0), 2)], CPU)


class Nan(nn.Module):
    def forward(self, z):
        return z if self.training else z * torch.nan


class Tuple(nn.Linear):
    def forward(self, x):
        return (super().forward(x),)


class Positions(nn.Module):
    """A buffer that is not saved, as of positions and masks."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
        self.register_buffer("shift", torch.arange(64.0), persistent=False)

    def forward(self, x):
        return self.layer(x + self.shift / 100)


MODELS = {
    "all frozen": (lambda: nn.Linear(64, 10).requires_grad_(False), "no parameter that is trained"),
    "nan": (lambda: nn.Sequential(nn.Linear(64, 10), Nan()), "gives nan before it was trained"),
    "one logit": (lambda: nn.Linear(64, 1), "gives one logit a point; .*klom_bench.binary"),
    "too few": (lambda: nn.Linear(64, 7), "gives 7 logits a point, and labels go up to 9"),
    "a tuple": (lambda: Tuple(64, 10), "a tuple; a tensor is expected"),
    "a sum": (lambda: nn.Sequential(nn.Linear(64, 10), nn.Flatten(0)), r"gives shape \(640,\)"),
    "another input": (
        lambda: nn.Linear(32, 10),
        "cannot be computed in train mode, so nothing was trained: RuntimeError: .*32",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_cannot_be_used(tmp_path, name):
    architecture, text = MODELS[name]
    task = replace(DIGITS, name="mine", architecture=architecture)
    with pytest.raises(KlomError, match=rf"the model of task mine .*{text}|.*{text}"):
        Store(tmp_path).complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert not list(tmp_path.rglob("*.pt"))


def test_buffers_that_are_not_saved_are_stacked(tmp_path):
    task = replace(DIGITS, name="mine", architecture=Positions)
    ensemble = EnsembleId(task, "original", 0)
    store = Store(tmp_path)
    store.complete([(ensemble, 2)], CPU)
    (state, _), (margins, _) = (
        store.held(ensemble).states_of(range(2)),
        store.held(ensemble).margins(2, CPU),
    )
    one = Positions()
    one.load_state_dict(state)
    z = one(DIGITS.data.x_val).detach()
    found = klom_bench.margins(z, DIGITS.data.y_val)
    assert torch.allclose(found, torch.from_numpy(margins[1438:]), atol=1e-4)


def test_whole_numbers_are_inputs_of_an_embedding(tmp_path):
    tokens = torch.randint(20, (240, 6), generator=torch.Generator().manual_seed(0))
    y = (tokens[:, 0] > 9).long()
    data = Data(tokens[:180], y[:180], tokens[180:], y[180:])
    net = lambda: nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(24, 2))  # noqa: E731
    task = replace(
        DIGITS,
        name="text",
        architecture=net,
        load=lambda: data,
        forget_sets={},
    )
    store = Store(tmp_path)
    store.complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert store.held(EnsembleId(task, "original", 0)).margins(2, CPU).shape == (2, 240)


def test_hashes_name_values_shapes_and_kinds():
    base = GOOD.hashes()
    assert DIGITS.data.hashes() == base
    assert replace(GOOD, x_train=GOOD.x_train.t().contiguous().t()).hashes() == base
    changes = [
        {"x_train": GOOD.x_train.view(-1, 8, 8)},
        {"x_train": GOOD.x_train.double()},
        {"x_train": GOOD.x_train + 1e-7 * torch.eye(1438, 64)},
        {"y_train": GOOD.y_train.flip(0)},
    ]
    for change in changes:
        (name,) = change
        other = replace(GOOD, **change).hashes()
        assert other[name] != base[name]
        assert {k: v for k, v in other.items() if k != name} == {
            k: v for k, v in base.items() if k != name
        }


def test_digits_are_the_same_bits_everywhere():
    """Pinned: sums of whole numbers and correctly rounded steps give these on any machine."""
    hashes = DIGITS.data.hashes()
    assert hashes["x_train"].startswith("906ec019")
    images = DIGITS_CNN.data
    assert torch.equal(images.x_train.flatten(1), DIGITS.data.x_train)
    x = np.concatenate([DIGITS.data.x_train.numpy(), DIGITS.data.x_val.numpy()])
    assert abs(x[:1438].mean()) < 1e-6
