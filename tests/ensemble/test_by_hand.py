"""A step that is written out is the step that autograd and torch's optimizer take."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from klom_bench import Data, Outputs, Recipe, Task
from klom_bench.ensemble.by_hand import by_hand
from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.outputs import class_right
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.step import Step
from klom_bench.ensemble.training import train
from klom_bench.metrics.margins import margins
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS

RECIPE = Recipe(epochs=3, batch_size=16, lr=0.2)


def deep():
    return nn.Sequential(
        nn.Linear(12, 16, bias=False), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(inplace=True),
        nn.Linear(8, 4),
    )  # fmt: skip


def only_linear():
    return nn.Sequential(nn.Linear(12, 4))


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def shared():
    one = nn.Linear(12, 12)
    return nn.Sequential(one, nn.ReLU(), one)


def frozen():
    net = deep()
    net[2].weight.requires_grad_(False)
    return net


NETS = [lambda: mlp(12, 8, 4), deep, only_linear]


def made(architecture, members, recipe=RECIPE, points=64, outputs=None, labels=4):
    draw = torch.Generator().manual_seed(7)
    x = torch.randn(points, 12, generator=draw)
    y = torch.randint(0, labels, (points,), generator=draw)
    task = Task(
        name="some", architecture=architecture, load=lambda: Data(x, y, x, y), train=recipe,
        forget_sets={"a": lambda: [0]},
    )  # fmt: skip
    states = [initial_state(architecture, i) for i in members]
    streams = [torch.Generator().manual_seed(i) for i in members]
    model = Ensemble(architecture, states, members, streams, outputs or task.outputs)
    return model, Points(x, y, torch.arange(points), streams)


def plainly(model, points, recipe):
    step = Step(model, points, recipe)
    model.train()
    done, steps = 0, recipe.epochs * step.batches
    for _ in range(recipe.epochs):
        for rows, drawn in step.epoch():
            step(rows, drawn, recipe.lr_at(done, steps))
            done += 1


@pytest.mark.parametrize("net", range(len(NETS)))
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_it_leads_where_the_plain_step_leads(net, momentum, decay):
    recipe = Recipe(
        epochs=3, batch_size=16, lr=0.2, momentum=momentum, weight_decay=decay, peak_epoch=1
    )
    a, b = (made(NETS[net], range(3), recipe) for _ in "ab")
    assert by_hand(Step(*a, recipe)) is not None
    before = [p.clone() for p in a[0].parameters()]
    for _ in train(*a, recipe):
        pass
    plainly(*b, recipe)
    for old, p, q in zip(before, a[0].parameters(), b[0].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
        assert (p - old).abs().max() > 0.01
    assert a[1].seen == b[1].seen == 3 * 64


@settings(max_examples=25, deadline=None)
@given(
    widths=st.lists(st.integers(1, 6).map(lambda k: 4 * k), max_size=3),
    biases=st.lists(st.booleans(), min_size=4, max_size=4),
    batch=st.integers(1, 16).map(lambda k: 2 * k),
    momentum=st.floats(0, 0.99),
    decay=st.floats(0, 0.1),
    seed=st.integers(0, 2**31),
)
def test_a_step_of_any_such_network_is_the_plain_one(widths, biases, batch, momentum, decay, seed):
    def architecture():
        layers, ends = [], [12, *widths, 4]
        for k, (a, b) in enumerate(pairwise(ends)):
            layers += [nn.ReLU()] * (k > 0) + [nn.Linear(a, b, bias=biases[k])]
        return nn.Sequential(*layers)

    recipe = Recipe(
        epochs=1, batch_size=batch, lr=0.05, momentum=momentum, weight_decay=decay
    )  # fmt: skip
    a, b = (made(architecture, range(seed, seed + 2), recipe, points=2 * batch) for _ in "ab")
    assert by_hand(Step(*a, recipe)) is not None
    for _ in train(*a, recipe):
        pass
    plainly(*b, recipe)
    for p, q in zip(a[0].parameters(), b[0].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", range(len(NETS)))
@pytest.mark.parametrize("batch", [4, 16])
def test_a_member_is_the_same_however_it_is_packed(net, batch):
    recipe = Recipe(epochs=2, batch_size=batch, lr=0.2)

    def trained(members):
        model, points = made(NETS[net], members, recipe)
        assert by_hand(Step(model, points, recipe)) is not None
        for _ in train(model, points, recipe):
            pass
        return dict(zip(members, model.fingerprints(), strict=True))

    whole = trained([*range(9)])
    parts = {}
    for members in ([0], [1, 2], [3, 4, 5], [6, 7, 8]):
        parts |= trained(members)
    assert whole == parts
    assert len({*whole.values()}) == 9


def test_digits_takes_it_and_is_as_right_as_ever():
    states = [initial_state(DIGITS.architecture, i) for i in range(2)]
    found = []
    for way in (plainly, lambda *given: [*train(*given)]):
        streams = [torch.Generator().manual_seed(i) for i in range(2)]
        model = DIGITS.ensemble(states, [0, 1], streams)
        data = DIGITS.data_on(torch.device("cpu"))
        points = data.points(np.arange(DIGITS.train_points), model.generators)
        assert by_hand(Step(model, points, DIGITS.recipe)) is not None
        way(model, points, DIGITS.recipe)
        found.append([p.detach() for p in model.parameters()])
    for plain, quick in zip(*found, strict=True):
        torch.testing.assert_close(quick, plain, rtol=0.02, atol=2e-4)


def test_gradients_of_before_are_gone():
    model, points = made(deep, range(2))
    model.loss(*next(points.batches(16))).backward()
    for _ in train(model, points, RECIPE):
        pass
    assert all(p.grad is None for p in model.parameters())


def listened(what):
    def architecture():
        net = deep()
        hook = {
            "forward": lambda: net[1].register_forward_hook(lambda *_: None),
            "before": lambda: net.register_forward_pre_hook(lambda *_: None),
            "backward": lambda: net[2].register_full_backward_hook(lambda *_: None),
        }
        hook[what]()
        return net

    return architecture


def other_loss(z, y):
    return nn.functional.cross_entropy(z, y, reduction="none").square()


@pytest.mark.parametrize(
    "architecture",
    [
        lambda: nn.Sequential(Doubled(12, 4)),
        lambda: nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4)),
        lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 4)),
        lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4), nn.ReLU()),
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(12, 4)),
        lambda: nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(12, 4))),
        lambda: nn.Sequential(nn.Sequential(nn.Linear(12, 8), nn.ReLU()), nn.Linear(8, 4)),
        lambda: nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 5)),
        shared, frozen, listened("forward"), listened("before"), listened("backward"),
        lambda: nn.Linear(12, 4),
    ],
)  # fmt: skip
def test_other_networks_are_trained_as_ever(architecture):
    model, points = made(architecture, range(2))
    assert by_hand(Step(model, points, RECIPE)) is None


@pytest.mark.parametrize(
    "given",
    [
        {"optimizer": "adamw"}, {"label_smoothing": 0.1}, {"class_weights": (1.0, 2.0, 1.0, 1.0)},
        {"max_norm": 1.0}, {"flip": True}, {"batch_size": 7}, {"batch_size": 15},
    ],
)  # fmt: skip
def test_other_recipes_are_taken_as_ever(given):
    recipe = Recipe(**{"epochs": 1, "batch_size": 16, "lr": 0.1, **given})
    model, points = made(deep, range(2), recipe)
    assert by_hand(Step(model, points, recipe)) is None


def test_other_losses_data_and_listeners_are_left_alone():
    usual = made(deep, range(2))
    assert by_hand(Step(*usual, RECIPE)) is not None
    other = Outputs(other_loss, margins, class_right, classes=True)
    assert by_hand(Step(*made(deep, range(2), outputs=other), RECIPE)) is None
    assert by_hand(Step(*made(deep, range(2), points=13), RECIPE)) is None
    beyond = made(deep, range(2), labels=6)
    assert by_hand(Step(*beyond, RECIPE)) is None
    model, points = made(deep, range(2))
    model.double()
    assert by_hand(Step(model, points, RECIPE)) is None
    model, points = made(deep, range(2))
    next(model.parameters()).register_hook(lambda g: g)
    assert by_hand(Step(model, points, RECIPE)) is None
    model, points = made(deep, range(2))
    points.prepare = lambda x: x + 1
    assert by_hand(Step(model, points, RECIPE)) is None
    model._stacked = False
    assert by_hand(Step(model, usual[1], RECIPE)) is None
    hook = register_optimizer_step_pre_hook(lambda *_: None)
    try:
        assert by_hand(Step(*usual, RECIPE)) is None
    finally:
        hook.remove()
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert by_hand(Step(*usual, RECIPE)) is None
    finally:
        hook.remove()
