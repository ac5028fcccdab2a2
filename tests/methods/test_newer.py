"""Newer methods against their rules, written by hand for one model."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import (
    FORGET,
    MEMBERS,
    RETAIN,
    X,
    Y,
    adam,
    agrees,
    batches,
    momentum_sgd,
    run,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.models.mlp import mlp
from klom_bench.models.resnet9 import Scale

pytestmark = pytest.mark.usefixtures("double")


def copy_of(net):
    other = mlp()
    other.load_state_dict(net.state_dict())
    return other


def test_delete():
    """The other classes keep their ratios."""

    def by_hand(net, g):
        teacher = copy_of(net)
        one = momentum_sgd(net, 0.05, 0.9, 0.0)
        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                p = teacher(x).softmax(1).detach()
                p[torch.arange(len(y)), y] = 0
                p /= p.sum(1, keepdim=True)
                one(-(p * net(x).log_softmax(1)).sum(1).mean())
        return net

    model, epochs, forget, retain = run("delete", lr=0.05, epochs=2, batch_size=4, momentum=0.9)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 0)


def with_a_row(net, g):
    """The same net with a class more."""
    wide = mlp(classes=11)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    row = torch.randn((1, 128), generator=g) * math.sqrt(2 / (128 + 11))
    state["2.weight"] = torch.cat([state["2.weight"], row])
    state["2.bias"] = torch.cat([state["2.bias"], torch.zeros(1)])
    wide.load_state_dict(state)
    return wide


def test_boundary_expand():
    def by_hand(net, g):
        wide = with_a_row(net, g)
        one = momentum_sgd(wide, 0.05, 0.9, 0.0)
        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                one(F.cross_entropy(wide(x), torch.full_like(y, 10)))
        found = wide.state_dict()
        net.load_state_dict({name: v[:10] if name[0] == "2" else v for name, v in found.items()})
        return net

    model, epochs, forget, retain = run(
        "boundary_expand", lr=0.05, epochs=2, batch_size=4, momentum=0.9
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 0)


class Scaled(nn.Module):
    """A scale for each of ten logits, which an eleventh does not fit."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        return self.linear(x) * torch.ones(10)


class Unmixed(nn.Conv1d):
    """Ten logits without a linear layer."""

    def __init__(self):
        super().__init__(64, 10, 1)

    def forward(self, x):
        return super().forward(x).flatten(1)


def unlearn_with(architecture, name):
    gens = streams()
    states = [initial_state(architecture, i) for i in MEMBERS]
    model = Ensemble(architecture, states, MEMBERS, gens).train()
    for _ in BUILT_IN[name](model, *(Points(X, Y, rows, gens) for rows in (FORGET, RETAIN))):
        pass
    return states, model.states()


def test_boundary_expand_needs_a_last_linear_layer():
    def no_bias():
        return nn.Sequential(nn.Linear(64, 10, bias=False), Scale(0.2))

    before, after = unlearn_with(no_bias, "boundary_expand")
    assert not torch.equal(before[0]["0.weight"], after[0]["0.weight"])
    with pytest.raises(KlomError, match=r"it needs a network that ends in nn\.Linear"):
        unlearn_with(Scaled, "boundary_expand")
    with pytest.raises(KlomError, match="there is none"):
        unlearn_with(lambda: nn.Sequential(nn.Unflatten(1, (64, 1)), Unmixed()), "boundary_expand")


def test_jit():
    """Gradients are never zeroed within an epoch, and the noisy outputs are constants."""

    def by_hand(net, g):
        parameters = list(net.parameters())
        total = [torch.zeros_like(p) for p in parameters]
        for _ in range(2):
            for x, _ in batches(FORGET, 4, g):
                steep = 0
                for _ in range(3):
                    near = x + 0.5 * torch.randn(x.shape, generator=g)
                    near = torch.minimum(torch.maximum(near, x.min()), x.max())
                    out = (net(x) - net(near).detach()).square().sum(1).sqrt()
                    steep = steep + (out / (x - near).square().sum(1).sqrt()).sum() / 3
                found = torch.autograd.grad(steep, parameters)
                total = [t + new for t, new in zip(total, found, strict=True)]
                with torch.no_grad():
                    for p, t in zip(parameters, total, strict=True):
                        p -= 0.01 * t
        return net

    model, epochs, forget, retain = run(
        "jit", sigma=0.5, samples=3, lr=0.01, epochs=2, batch_size=4
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 0)


def test_lotus():
    """A member stops before an epoch in which F is known too badly."""
    trained = []

    def by_hand(net, g):
        teacher = copy_of(net)
        some = RETAIN[torch.randperm(33, generator=g)[:9]]  # 30 % of 33
        both = torch.cat([FORGET, some])
        one = adam(list(net.parameters()), 0.02)
        for epoch in range(4):
            known = sum(int((net(x).argmax(1) == y).sum()) for x, y in batches(FORGET, 8, g))
            surplus = round(known / 7, 2) - 0.1
            if surplus <= -0.01:
                break
            trained.append((epoch, surplus))
            for rows in both[torch.randperm(16, generator=g)].split(8):
                x = X[rows]
                z = teacher(x).detach()
                z = z - torch.empty(z.shape).exponential_(generator=g).log()
                smooth = (z / math.exp(2.0 * surplus)).softmax(1)
                sure = torch.eye(10)[z.argmax(1)]
                p = torch.where((rows < 7)[:, None], smooth, sure)
                old = [p.detach().clone() for p in net.parameters()]
                one(-(p * net(x).log_softmax(1)).sum(1).mean())
                with torch.no_grad():
                    for now, before in zip(net.parameters(), old, strict=True):
                        now -= 0.02 * 0.1 * before
        return net

    model, epochs, forget, retain = run(
        "lotus",
        alpha=2.0,
        unseen=0.1,
        share=0.3,
        lr=0.02,
        epochs=4,
        batch_size=8,
        weight_decay=0.1,
    )
    agrees(model, by_hand)
    assert 4 < len(trained) < 8  # of 2 members x 4 epochs
    assert (epochs, forget.seen, retain.seen) == (4, 56, 36)
