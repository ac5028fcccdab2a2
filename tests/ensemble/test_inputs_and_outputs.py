"""Inputs that are not one tensor, outputs that are not classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from klom_bench import (
    Data,
    KlomError,
    Outputs,
    Recipe,
    Task,
    binary,
    classification,
    margins,
    mlp,
    multi_label,
    regression,
)
from klom_bench.store.export import export
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId
from tests.helpers.any_model import KINDS, POINTS, TOKENS, TwoInputs, X, Y
from tests.helpers.nets import CPU

G = torch.Generator().manual_seed(1)


def independent(kind):
    """(outputs, z [M, B, ...], y [M, B, ...], loss and margins by torch and by hand)."""
    if kind == "classification":
        z, y = torch.randn(3, 8, 5, generator=G), torch.randint(5, (3, 8), generator=G)
        p = z.double().softmax(-1).gather(-1, y.unsqueeze(-1)).squeeze(-1)
        return classification, z, y, F.cross_entropy(z.mT, y, reduction="none"), (p / (1 - p)).log()
    if kind == "regression":
        z, y = torch.randn(3, 8, 1, generator=G), torch.randn(3, 8, generator=G)
        return regression, z, y, F.mse_loss(z[..., 0], y, reduction="none"), z[..., 0] - y
    shape = (3, 8) if kind == "binary" else (3, 8, 4)
    z, y = torch.randn(shape, generator=G), torch.randint(2, shape, generator=G)
    loss = F.binary_cross_entropy_with_logits(z, y.float(), reduction="none")
    p = torch.where(y.bool(), z.double().sigmoid(), 1 - z.double().sigmoid())
    odds = (p / (1 - p)).log()
    if kind == "binary":
        return binary, z, y, loss, odds
    return multi_label, z, y.float(), loss.mean(-1), odds.mean(-1)


@pytest.mark.parametrize("kind", ["classification", "binary", "multi_label", "regression"])
def test_ready_choices_are_what_torch_and_probabilities_say(kind):
    outputs, z, y, loss, odds = independent(kind)
    assert torch.allclose(outputs.losses(z, y), loss, atol=1e-5)
    assert torch.allclose(outputs.mean_loss(z, y), loss.mean(1).sum(), atol=1e-5)
    for i in range(3):
        assert torch.allclose(outputs.margins(z, y[i])[i].double(), odds[i].double(), atol=1e-4)
    right = outputs.rights(z, y[0])
    if kind == "regression":
        assert right is None
    elif kind == "multi_label":
        assert torch.equal(right[0], ((z[0] > 0) == y[0].bool()).all(-1))
    elif kind == "binary":
        assert torch.equal(right[0], (z[0] > 0) == y[0].bool())
    else:
        assert torch.equal(right[0], z[0].argmax(-1) == y[0])


def made(name, x, y, architecture, n=POINTS - 4, **more):
    def cut(rows):
        return (
            {k: v[rows] for k, v in x.items()}
            if isinstance(x, dict)
            else (tuple(v[rows] for v in x) if isinstance(x, tuple) else x[rows])
        )

    return Task(
        name=name,
        architecture=architecture,
        load=lambda: Data(cut(slice(n)), y[:n], cut(slice(n, None)), y[n:]),
        forget_sets={"two": lambda: range(2)},
        train=Recipe(epochs=2, batch_size=4, lr=0.05),
        **more,
    )


@pytest.mark.parametrize("name", ["encoder", "two inputs", "GRU"])
@pytest.mark.parametrize("method", ["ga", "ssd", "dm_direct"])
def test_a_cell_of_dicts_and_tuples(name, method, measured):
    architecture, x = KINDS[name]
    folder = name.replace(" ", "_").upper()
    task = made("several", x, Y, architecture, folder=folder, pack=3)
    given = {"subsets": 6} if method == "dm_direct" else {}
    record = measured(method, task=task, forget_set="two", members=3, **given)
    assert np.isfinite(record.points).all()
    assert 0 <= record.accuracy["val"] <= 1


class Lazily:
    """Points that are read one by one, and counted."""

    def __init__(self, x, tokens):
        self.x, self.tokens, self.read = x, tokens, 0

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.read += 1
        return self.x[i].numpy(), self.tokens[i]


def test_a_dataset_is_read_point_by_point_and_gives_the_same_scores(measured):
    lazy, val = Lazily(X[:8], TOKENS[:8]), Lazily(X[8:], TOKENS[8:])
    whole = made("held", (X, TOKENS), Y, TwoInputs, folder="HELD")
    read = replace(whole, folder="READ", load=lambda: Data(lazy, Y[:8], val, Y[8:]))
    a, b = (measured("ga", task=t, forget_set="two", members=3) for t in (whole, read))
    assert np.array_equal(a.points, b.points)
    assert lazy.read > 8


def test_a_dataset_that_changes_is_noticed_by_its_length(tmp_path):
    def task(n):
        load = lambda: Data(Lazily(X[:n], TOKENS), Y[:n], Lazily(X[8:], TOKENS[8:]), Y[8:])  # noqa: E731
        return replace(made("lazy", (X, TOKENS), Y, TwoInputs), load=load)

    store = Store(tmp_path)
    store.complete([(EnsembleId(task(8), "original", 0), 1)], CPU)
    with pytest.raises(KlomError, match=r"the data changed since \(x_train, y_train\)"):
        Store(tmp_path).complete([(EnsembleId(task(7), "original", 0), 1)], CPU)
    wrong = replace(task(8), load=lambda: Data(Lazily(X[:7], TOKENS), Y[:8], X, Y))
    with pytest.raises(KlomError, match="x_train has 7 points and y_train 8 labels"):
        Store(tmp_path).complete([(EnsembleId(wrong, "original", 0), 1)], CPU)


@pytest.mark.parametrize(
    ("outputs", "y", "last"),
    [
        (regression, torch.randn(POINTS, generator=G), 1),
        (binary, torch.arange(POINTS) % 2, 1),
        (multi_label, (torch.arange(POINTS)[:, None] % torch.tensor([2, 3]) == 0).float(), 2),
    ],
)
def test_a_cell_of_other_outputs(outputs, y, last, measured, tmp_path):
    name = {1: "ONE", 2: "TWO"}[last] + ("_R" if outputs.right is None else "")
    task = made("others", X, y, lambda: mlp(24, 8, last), outputs=outputs, folder=name)
    record = measured("finetune", task=task, forget_set="two", members=3)
    assert np.isfinite(record.points).all()
    assert np.isnan(record.accuracy["val"]) == (outputs.right is None)
    store = Store(tmp_path)
    mine = EnsembleId(task, "original", 0)
    store.complete([(mine, 2)], CPU)
    held = store.held(mine)
    model = mlp(24, 8, last)
    model.load_state_dict(held.states_of([1])[0])
    with torch.no_grad():
        by_hand = outputs.margin(model(X), y)
    assert np.allclose(held.margins(2, CPU)[1], by_hand, atol=1e-5)


def test_functions_of_ones_own(measured):
    def loss(z, y):
        return (z[:, 0] - y).abs()

    task = made("own", X, X[:, 0], lambda: mlp(24, 8, 1), loss=loss, margin=lambda z, y: z[:, 0])
    task = replace(
        task, folder="OWN_LOSS", outputs=replace(task.outputs, right=None, classes=False)
    )
    assert np.isfinite(measured("ga", task=task, forget_set="two", members=2).points).all()


def test_a_loss_that_gives_a_scalar_is_refused(tmp_path):
    outputs = Outputs(loss=nn.functional.mse_loss, margin=regression.margin)
    task = made("own", X, X[:, :1], lambda: mlp(24, 8, 1), outputs=outputs)
    with pytest.raises(KlomError, match=r"`loss` gave \(\) for \d+ points, one number a point is"):
        Store(tmp_path).complete([(EnsembleId(task, "original", 0), 1)], CPU)
    outputs = Outputs(loss=regression.loss, margin=lambda z, y: z)
    task = made("own", X, X[:, 0], lambda: mlp(24, 8, 1), outputs=outputs)
    with pytest.raises(KlomError, match=r"`margin` gave \(\d, 1\) for \d points, one number a"):
        Store(tmp_path).complete([(EnsembleId(task, "original", 0), 1)], CPU)


@pytest.mark.parametrize(
    ("method", "kind", "why"),
    [
        ("random_label", "regression", "random_label needs classes, and others has none"),
        ("unsir", "regression", "unsir needs classes"),
        *(
            (name, "tokens", f"{name} moves inputs by small steps, and those of others are not one")
            for name in ("jit", "amun", "unsir", "boundary_shrink")
        ),
        ("msg", "regression", "msg needs 2-d conv layers"),
    ],
)
def test_what_does_not_apply_says_why(method, kind, why, cell):
    if kind == "regression":
        task = made("others", X, X[:, 0], lambda: mlp(24, 8, 1), outputs=regression)
    else:
        task = made("others", TOKENS, Y, lambda: nn.Sequential(nn.Embedding(20, 2), nn.Flatten()))
    assert cell(method, task=task, forget_set="two").unfit.startswith(why)


def test_a_recipe_for_classes_is_for_classes():
    with pytest.raises(KlomError, match="label_smoothing is for classes"):
        replace(
            made("others", X, X[:, 0], mlp, outputs=regression),
            train=Recipe(2, 4, 0.1, label_smoothing=0.1),
        )


def test_margins_of_classes_are_those_of_the_metric():
    z, y = torch.randn(2, POINTS, 3, generator=G), Y
    assert torch.equal(classification.margins(z, y), margins(z, y))


@pytest.mark.parametrize("layout", ["card", "easydub"])
@pytest.mark.parametrize("kind", ["regression", "multi_label"])
def test_what_is_exported_is_read_as_published(kind, layout, tmp_path):
    if kind == "regression":
        task = made("others", X, X[:, 0], lambda: mlp(24, 8, 1), outputs=regression)
    else:
        y = (torch.arange(POINTS)[:, None] % torch.tensor([2, 3]) == 0).float()
        task = made("others", X, y, lambda: mlp(24, 8, 2), outputs=multi_label)
    store = Store(tmp_path / "ours")
    ids = [
        EnsembleId(task, "original", 0),
        EnsembleId(task, "oracle", 0, task.forget_set("two")),
    ]
    wanted = [(one, 2) for one in ids]
    store.complete(wanted, CPU)
    export(store, tmp_path / "theirs", layout, wanted, CPU)
    theirs = Store(tmp_path / "theirs", "error")
    for mine, read in zip(ids, theirs.complete(wanted, CPU), strict=True):
        assert read.published
        assert np.array_equal(read.margins(2, CPU), store.held(mine).margins(2, CPU))
        right = read.answers(2)
        assert (right is None) == (kind == "regression")
