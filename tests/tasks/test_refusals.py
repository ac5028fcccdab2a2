"""Tasks of any kind that cannot be right: one message each, before anything is trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from klom_bench import (
    Data,
    KlomError,
    Outputs,
    Recipe,
    Task,
    binary,
    classification,
    mlp,
    multi_label,
    per_model,
    regression,
)
from klom_bench.errors import KlomWarning
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId
from tests.helpers.any_model import TOKENS, TwoInputs, X, Y
from tests.helpers.nets import CPU


def task(x=X, y=Y, architecture=lambda: mlp(24, 8, 3), **more):
    cut = lambda rows: {k: v[rows] for k, v in x.items()} if isinstance(x, dict) else x[rows]  # noqa: E731
    return Task(
        name="mine",
        architecture=architecture,
        load=lambda: Data(cut(slice(8)), y[:8], cut(slice(8, None)), y[8:]),
        **(
            {
                "train": Recipe(epochs=1, batch_size=4, lr=0.05),
                "forget_sets": {"two": lambda: range(2)},
            }
            | more
        ),
    )


class Assigns(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(24, 3)
        self.register_buffer("ema", torch.zeros(3))

    def forward(self, x):
        z = self.layer(x)
        if self.training:
            self.ema = 0.9 * self.ema + 0.1 * z.detach().mean(0)
        return z - self.ema


class Listed:
    def __init__(self, one):
        self.one = one

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return self.one(i)


def dataset(one):
    val = Data(X[:8], Y[:8], X[8:], Y[8:])
    return replace(
        task(), load=lambda: replace(val, x_train=Listed(one), x_val=Listed(one), y_val=Y[:8])
    )


@per_model
def adds_a_layer(model, points):
    model.add_module("3", nn.Linear(3, 3))


@per_model
def prunes(model, points):
    prune.l1_unstructured(model[0], "weight", 0.5)


ONE = lambda: mlp(24, 8, 1)  # noqa: E731
TASKS = {
    "an assigned buffer": (task(architecture=Assigns), "assigns its buffer ema in a forward pass"),
    "a random dataset": (
        dataset(lambda i: torch.randn(24)),
        r"x_train\[0\] is another one each time",
    ),
    "pairs": (
        dataset(lambda i: (X[i], Y[i])),
        r"x_train\[i\] gives the label, too; the input alone",
    ),
    "labels of -1 and 1": (
        task(y=Y * 2 - 1, architecture=ONE, outputs=binary),
        "y_train has labels other than 0 and 1",
    ),
    "labels of 0 and 5": (
        task(y=torch.stack([Y, Y], 1), architecture=lambda: mlp(24, 8, 2), outputs=multi_label),
        "y_train has labels other than 0 and 1",
    ),
    "a loss of the batch": (
        task(
            y=X[:, 0],
            architecture=ONE,
            outputs=Outputs(lambda z, y: (z[:, 0] - y) ** 2 * z.abs().max(), regression.margin),
        ),
        "`loss` of task mine gives another number for a point where other points",
    ),
    "a margin that is nan": (
        task(margin=lambda z, y: z[:, 0] / 0 * 0),
        "the margins of task mine are not finite at the start",
    ),
    "right that is a number": (
        task(right=lambda z, y: z[:, 0]),
        "`right` gave torch.float32; torch.bool is expected",
    ),
    "each with each": (
        task(
            y=X[:, 0],
            architecture=ONE,
            outputs=Outputs(nn.MSELoss(reduction="none"), regression.margin),
        ),
        r"`loss` gave \(\d+, \d+\) for .* combined each with each: outputs.squeeze",
    ),
    "a list": (
        task(y=X[:, 0], architecture=ONE, outputs=Outputs(lambda z, y: [1], regression.margin)),
        "`loss` gave list; a tensor with a number a point",
    ),
    "labels from 1": (task(y=Y + 1), r"labels are 1 to 3: classes count from 0 on \(y - 1\?\)"),
    "few class weights": (
        task(train=Recipe(1, 4, 0.1, class_weights=(1, 2))),
        "has 2 class_weights, and there are 3 classes",
    ),
    "rows that are flipped": (task(train=Recipe(1, 4, 0.1, flip=True)), "moves images .* are none"),
    "a layer that is added": (
        task(train=adds_a_layer),
        r"changed the layers of its model \(3\.weight",
    ),
    "pruned": (task(train=prunes), r"changed the layers of its model \(0\.weight"),
    "an output for all": (
        task(architecture=lambda: Sums(24, 3)),
        r"gives shape \(3,\) for \d points",
    ),
}


class Sums(nn.Linear):
    def forward(self, x):
        return super().forward(x).sum(0)


@pytest.mark.parametrize("name", TASKS)
def test_it_is_told(tmp_path, name):
    mine, message = TASKS[name]
    with pytest.raises(KlomError, match=message):
        Store(tmp_path).complete([(EnsembleId(mine, "original", 0), 2)], CPU)
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("epochs", ["3", 2.0, 0, None])
def test_epochs_that_are_none(epochs):
    def train(model, points, *, epochs=epochs):
        yield

    with pytest.raises(KlomError, match="train, which trains task mine, has epochs="):
        task(train=train)


def test_fresh_without_a_start():
    with pytest.raises(KlomError, match=r"fresh='head\.\*', and no start"):
        task(fresh="head.*")
    with pytest.raises(KlomError, match="start is dict; the path of a file is expected"):
        task(start={})


@pytest.mark.parametrize("kind", ["dict", "tuple"])
def test_a_function_of_one_model_gets_several_inputs(kind, measured):
    """Its points' batches, tensors and dataset have no member dimension."""
    shapes = []

    @per_model
    def train(model, points, *, epochs=1):
        for x, y in [*points.batches(4), points.tensors(), *points.dataset]:
            parts = list(x.values()) if isinstance(x, dict) else list(x)
            shapes.append([len(p) if y.ndim else p.ndim for p in parts])
        with torch.no_grad():
            next(model.parameters()).add_(1)

    x = {"x": X, "tokens": TOKENS}
    mine = task(x, architecture=TwoInputs, train=train)
    if kind == "tuple":
        load = mine.load
        values = lambda d: tuple(d.values())  # noqa: E731
        data = load()
        mine = replace(
            mine,
            folder="TUPLE",
            load=lambda: replace(data, x_train=values(data.x_train), x_val=values(data.x_val)),
        )
    assert np.isfinite(measured("ga", task=mine, forget_set="two", members=2).points).all()
    assert {tuple(s) for s in shapes} <= {(4, 4), (2, 2), (6, 6), (8, 8), (1, 1)}


def test_residuals_may_be_small(tmp_path):
    """Of nets that nearly fit a line one is often four times as far off as the median."""
    y = X @ torch.linspace(-1, 1, 24)
    mine = task(y=y, architecture=lambda: nn.Linear(24, 1), outputs=regression, pack=20)
    mine = replace(mine, train=Recipe(epochs=40, batch_size=4, lr=0.02))
    Store(tmp_path).complete([(EnsembleId(mine, "original", 0), 20)], CPU)


def test_a_regression_that_diverges_is_refused(tmp_path):
    mine = task(y=X[:, 0], architecture=ONE, outputs=regression)
    mine = replace(mine, train=Recipe(epochs=9, batch_size=4, lr=5.0))
    with pytest.raises(KlomError, match="diverged in training: mean margin size"):
        Store(tmp_path).complete([(EnsembleId(mine, "original", 0), 3)], CPU)


def test_functions_in_the_place_of_values():
    for given in ({"architecture": ONE()}, {"load": Data(X, Y, X, Y)}):
        with pytest.raises(KlomError, match="give architecture and load as functions"):
            replace(task(), **given)


def test_probabilities_are_told(tmp_path):
    mine = task(architecture=lambda: nn.Sequential(*ONE()[:-1], nn.Linear(8, 3), nn.Softmax(-1)))
    with pytest.warns(KlomWarning, match="gives probabilities, and scores are of logits"):
        Store(tmp_path).complete([(EnsembleId(mine, "original", 0), 1)], CPU)


def test_forget_sets_as_people_have_them():
    mask = torch.arange(8) < 3
    for given in ([0, 1, 2], range(3), lambda: mask, mask, mask.numpy(), mask.nonzero()):
        assert task(forget_sets={"f": given}).forget_set("f").indices.tolist() == [0, 1, 2]
    with pytest.raises(KlomError, match="must be a list of integer indices"):
        task(forget_sets={"f": mask[:5]}).forget_set("f")


def test_a_loss_and_a_margin_of_ones_own_need_no_classes():
    def loss(z, y):
        return (z[:, 0] - y).abs()

    alone = task(y=X[:, 0], architecture=ONE, loss=loss, margin=loss)
    assert not alone.outputs.classes
    assert alone.outputs.right is None
    assert task(loss=loss, margin=loss, outputs=classification).outputs.classes
    assert task(margin=loss).outputs.classes
