"""Boundary shrink against its rule: by units of the input, by pixels, with the true class masked."""

import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import (
    FORGET,
    MEMBERS,
    RETAIN,
    Y,
    agrees,
    batches,
    ensemble,
    momentum_sgd,
    run,
    single,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.methods import BUILT_IN
from klom_bench.methods.boundary import class_beyond
from klom_bench.models.mlp import mlp

pytestmark = pytest.mark.usefixtures("double")
SETTINGS = {"lr": 0.05, "epochs": 2, "batch_size": 4, "momentum": 0.9, "weight_decay": 0.01}


def slope_sign(net, x, y):
    x = x.clone().requires_grad_()
    F.cross_entropy(net(x), y).backward()
    return x.grad.sign()


def copy_of(net):
    original = mlp()
    original.load_state_dict(net.state_dict())
    return original


@pytest.mark.parametrize("masked", [False, True])
def test_boundary_shrink(masked):
    labels = set()

    def by_hand(net, g):
        original = copy_of(net)
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                z = original(x + 0.4 * slope_sign(original, x, y)).detach()
                nearest = torch.tensor(
                    [
                        max((c for c in range(10) if not masked or c != t), key=lambda c: row[c])
                        for row, t in zip(z, y.tolist(), strict=True)
                    ]
                )
                labels.update(nearest.tolist())
                one(F.cross_entropy(net(x), nearest))
        return net

    model, epochs, forget, retain = run("boundary_shrink", bound=0.4, masked=masked, **SETTINGS)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 0)
    assert len(labels) > 2


def test_pixels():
    """Stored as uint8: the step is one of pixels from 0 to 1, which end there and are rounded."""
    stored = torch.randint(0, 256, (40, 64), generator=torch.Generator().manual_seed(0)).byte()
    mean, std = torch.rand(64), 0.2 + torch.rand(64)
    beyond = []

    def prepare(x):
        return (x.double() / 255 - mean) / std

    def by_hand(net, g):
        original = copy_of(net)
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for _ in range(2):
            for rows in FORGET[torch.randperm(7, generator=g)].split(4):
                x, y = prepare(stored[rows]), Y[rows]
                pixel = stored[rows].double() / 255 + 0.3 * slope_sign(original, x, y)
                beyond.append(((pixel < 0) | (pixel > 1)).double().mean())
                pixel = torch.round(pixel.clamp(0, 1) * 255) / 255
                label = original((pixel - mean) / std).argmax(1)
                one(F.cross_entropy(net(x), label))
        return net

    gens = streams()
    model = Ensemble(mlp, ensemble()[0].states(), MEMBERS, gens).train()
    points = [Points(stored, Y, rows, gens, prepare) for rows in (FORGET, RETAIN)]
    for _ in BUILT_IN["boundary_shrink"](model, *points, bound=0.3, **SETTINGS):
        pass
    for i, state in zip(MEMBERS, model.states(), strict=True):
        for name, value in by_hand(*single(i)).state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-9)
    assert min(beyond) > 0.1


def test_the_nearest_wrong_class_is_wrong_where_the_attack_fails():
    def identity():
        return nn.Sequential(nn.Linear(3, 3, bias=False))

    f0 = Ensemble(identity, [{"0.weight": torch.eye(3)}])
    x, y = torch.tensor([[[5.0, 2.0, 1.0], [0.0, 1.0, 9.0]]]), torch.tensor([[0, 2]])
    for bound in (0.0, 100.0):
        assert class_beyond(f0, x, y, bound, None, masked=True).tolist() == [[1, 1]]
    assert class_beyond(f0, x, y, 0.0, None, masked=False).tolist() == [[0, 2]]
