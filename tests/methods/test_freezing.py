"""Fine-tuning of the last layers or blocks, against its rule by hand."""

import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import (
    FORGET,
    MEMBERS,
    RETAIN,
    X,
    Y,
    agrees,
    batches,
    ensemble,
    run,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.freezing import last
from klom_bench.models.mlp import mlp
from klom_bench.models.resnet18 import resnet18
from klom_bench.tasks import DIGITS

pytestmark = pytest.mark.usefixtures("double")


def last_only(net, g):
    """SGD on the last block by hand; everything else as it was."""
    weight, bias = net[2].weight, net[2].bias
    velocity = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for _ in range(2):
        for x, y in batches(RETAIN, 16, g):
            gradients = torch.autograd.grad(F.cross_entropy(net(x), y), [weight, bias])
            with torch.no_grad():
                for p, grad, v in zip((weight, bias), gradients, velocity, strict=True):
                    v.mul_(0.9).add_(grad + 0.01 * p)
                    p -= 0.05 * v
    return net


LAST = {"k": 1, "lr": 0.05, "epochs": 2, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.01}


def test_cf_k():
    model, epochs, forget, retain = run("cf_k", **LAST)
    agrees(model, last_only)
    assert (epochs, forget.seen, retain.seen) == (2, 0, 66)
    for state, before in zip(model.states(), ensemble()[0].states(), strict=True):
        assert torch.equal(state["0.weight"], before["0.weight"])


def test_eu_k():
    def by_hand(net, g):
        fresh = initial_state(mlp, int(torch.randint(2**62, (), generator=g)))
        with torch.no_grad():
            net[2].weight.copy_(fresh["2.weight"])
            net[2].bias.copy_(fresh["2.bias"])
        return last_only(net, g)

    model, *_ = run("eu_k", task=DIGITS, **LAST)
    agrees(model, by_hand)


def test_eu_k_takes_as_long_as_training():
    _, epochs, _, retain = run("eu_k", task=DIGITS, batch_size=33)
    assert (epochs, retain.seen) == (20, 20 * 33)


@pytest.mark.parametrize("k", [0, 3])
@pytest.mark.parametrize("unit", ["layers", "blocks"])
def test_layers_and_blocks_that_are_not_there(k, unit):
    with pytest.raises(KlomError, match=f"k = {k}, but the network has 2 {unit}: 0, 2"):
        run("cf_k", **{**LAST, "k": k, "unit": unit})


def test_units():
    """Of ResNet-18: the share of weights that others count (Goel's layers; stages)."""

    def share(k, unit):
        sizes = {n: p.numel() for n, p in net.named_parameters()}
        mine = last(net, k, unit)
        assert all(n in dict(net.named_modules()) for n in mine)
        of_mine = [v for n, v in sizes.items() if any(n.startswith(f"{m}.") for m in mine)]
        return round(100 * sum(of_mine) / sum(sizes.values()), 2)

    net = resnet18(10)
    assert [share(k, "layers") for k in (1, 2, 3)] == [0.05, 21.15, 42.26]
    assert [share(k, "blocks") for k in (1, 2)] == [0.05, 75.11]
    with pytest.raises(KlomError, match="unknown unit 'stages'"):
        last(net, 1, "stages")


def test_norm_layers_behind_the_last_ones_come_along():
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.ReLU()
    )
    assert last(net, 1, "layers") == ["2", "3"]
    assert last(net, 2, "layers") == ["0", "1", "2", "3"]
    assert last(net, 1, "blocks") == ["3"]


def test_frozen_blocks_keep_their_batchnorm_statistics():
    """Also where the ensemble is evaluated between two epochs."""

    def net():
        return nn.Sequential(
            nn.Linear(64, 8),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Linear(8, 8),
            nn.BatchNorm1d(8),
            nn.Linear(8, 10),
        )

    gens = streams()
    model = Ensemble(net, [initial_state(net, i) for i in MEMBERS], MEMBERS, gens).train()
    before = model.states()
    points = [Points(X, Y, rows, gens) for rows in (FORGET, RETAIN)]
    for _ in BUILT_IN["cf_k"](model, *points, k=2, epochs=3, batch_size=11):
        with evaluating(model):
            model(X[:8].expand(2, -1, -1))
    after = model.states()
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a["1.running_mean"], b["1.running_mean"])
        assert not torch.equal(a["4.running_mean"], b["4.running_mean"])


class WithOwn(nn.Module):
    """With a parameter that is of no layer, as vision transformers have."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(64))
        self.one, self.two = nn.Linear(64, 8), nn.Linear(8, 10)

    def forward(self, x):
        return self.two(self.one(x + self.shift).relu())


@pytest.mark.parametrize(("k", "moved"), [(1, {"two"}), (2, {"one", "two"})])
def test_parameters_of_no_layer_stay(k, moved):
    gens = streams()
    model = Ensemble(WithOwn, [initial_state(WithOwn, i) for i in MEMBERS], MEMBERS, gens)
    before = model.train().states()
    points = [Points(X, Y, rows, gens) for rows in (FORGET, RETAIN)]
    for _ in BUILT_IN["cf_k"](model, *points, k=k, epochs=2):
        pass
    for old, new in zip(before, model.states(), strict=True):
        assert {n.partition(".")[0] for n in old if not torch.equal(old[n], new[n])} == moved
