"""Dampening against its rule, weight by weight."""

import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import FORGET, MEMBERS, RETAIN, X, Y, agrees, batches, ensemble, run, streams
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.methods import BUILT_IN
from klom_bench.models.mlp import mlp

pytestmark = pytest.mark.usefixtures("double")
BOTH = torch.cat([FORGET, RETAIN])


def loss(net, x, y):
    return F.cross_entropy(net(x), y)


def squared_norm(net, x, y):
    return sum(z.norm() ** 2 for z in net(x)) / len(x)


METHODS = [("ssd", loss, torch.square), ("lfssd", squared_norm, torch.abs)]


def mean_of(net, parts, value, size):
    """The mean of size(gradient) over parts, each a few points of which the value is taken."""
    found = [
        [size(g) for g in torch.autograd.grad(value(net, x, y), list(net.parameters()))]
        for x, y in parts
    ]
    return [torch.stack(column).mean(0) for column in zip(*found, strict=True)]


def dampened(net, of_f, of_d, alpha, lam):
    """How many weights were dampened."""
    count = 0
    with torch.no_grad():
        for p, f, d in zip(net.parameters(), of_f, of_d, strict=True):
            for index in torch.nonzero(f > alpha * d):
                i = tuple(index.tolist())
                p[i] *= min(lam * float(d[i]) / float(f[i]), 1.0)
                count += 1
    return count


@pytest.mark.parametrize(("name", "value", "size"), METHODS)
def test_by_examples(name, value, size):
    counts = []

    def by_hand(net, g):
        of_f, of_d = (
            mean_of(net, ((X[i : i + 1], Y[i : i + 1]) for i in rows), value, size)
            for rows in (FORGET, BOTH)
        )
        counts.append(dampened(net, of_f, of_d, 1.5, 0.8))
        return net

    model, epochs, forget, retain = run(name, importance="example", alpha=1.5, lam=0.8)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (1, 7, 33)
    assert all(50 < count < 9000 for count in counts)


@pytest.mark.parametrize(("name", "value", "size"), METHODS)
def test_by_batches(name, value, size):
    """Those of a batch's mean; the last batches of F and of all points are smaller, and count."""
    counts = []

    def by_hand(net, g):
        of_f, of_d = (mean_of(net, batches(rows, 4, g), value, size) for rows in (FORGET, BOTH))
        counts.append(dampened(net, of_f, of_d, 3.0, 0.8))
        return net

    model, epochs, forget, retain = run(name, alpha=3.0, lam=0.8, batch_size=4)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (1, 14, 33)
    assert all(50 < count < 9000 for count in counts)


def test_adaptive():
    counts = []

    def by_hand(net, g):
        of_f, of_r = (
            mean_of(net, batches(rows, 4, g), loss, torch.square) for rows in (FORGET, RETAIN)
        )
        ratios = torch.cat([(f / r).flatten() for f, r in zip(of_f, of_r, strict=True)])
        ratios = ratios[ratios.isfinite()].sort().values
        share = 1 - torch.log1p(torch.tensor(100 * 7 / 40)) / 100
        at = share * (len(ratios) - 1)  # between two of them
        low = int(at)
        alpha = ratios[low] + (at - low) * (ratios[low + 1] - ratios[low])
        counts.append(dampened(net, of_f, of_r, alpha, 0.5))
        return net

    model, epochs, forget, retain = run("assd", lam=0.5, batch_size=4)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (1, 7, 33)
    assert all(100 < count < 1000 for count in counts)


@pytest.mark.parametrize("name", ["ssd", "lfssd"])
@pytest.mark.parametrize(("importance", "alpha"), [("batch", 10.0), ("example", 1.3)])
def test_each_importance_has_a_threshold_of_its_own(name, importance, alpha):
    usual, said = (
        run(name, importance=importance, batch_size=4, **a) for a in ({}, {"alpha": alpha})
    )
    for one, other in zip(usual[0].states(), said[0].states(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_large_lambda_never_makes_weights_larger():
    model, *_ = run("ssd", importance="example", alpha=1.0, lam=100.0)
    for state, before in zip(model.states(), ensemble()[0].states(), strict=True):
        assert all(torch.equal(state[n], before[n]) for n in state)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ssd", {"importance": "example", "alpha": 1.5}),
        ("lfssd", {"importance": "example", "alpha": 1.5}),
        ("fisher", {"alpha": 1e-4}),
    ],
)
def test_importances_of_any_network(name, settings):
    """A net that is no chain of linear layers goes another way, and must get as far."""

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return self.inner(x)

    plain, *_ = run(name, **settings)
    states = [{f"inner.{n}": v for n, v in s.items()} for s in ensemble()[0].states()]
    gens = streams()
    model = Ensemble(Wrapped, states, MEMBERS, gens).train()
    points = [Points(X, Y, rows, gens) for rows in (FORGET, RETAIN)]
    for _ in BUILT_IN[name](model, *points, **settings):
        pass
    for one, other in zip(plain.states(), model.states(), strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[f"inner.{key}"], value, rtol=1e-9, atol=1e-9)
