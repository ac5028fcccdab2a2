"""Importances, Fisher information, influence and boundaries, against closed forms."""

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
    loss,
    momentum_sgd,
    run,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.methods import BUILT_IN
from klom_bench.methods.boundary import nearest_wrong
from klom_bench.methods.influence import conjugate_gradients
from klom_bench.models.mlp import mlp

pytestmark = pytest.mark.usefixtures("double")


BOTH = torch.cat([FORGET, RETAIN])


def gradients_one_by_one(net, rows, value):
    """The gradient of value(net, x, y) for each example: one list of tensors an example."""
    for i in rows:
        yield torch.autograd.grad(value(net, X[i : i + 1], Y[i : i + 1]), list(net.parameters()))


def mean_of(net, rows, value, size):
    found = [[size(g) for g in gs] for gs in gradients_one_by_one(net, rows, value)]
    return [torch.stack(column).mean(0) for column in zip(*found, strict=True)]


@pytest.mark.parametrize(
    ("name", "value", "size"),
    [
        ("ssd", loss, torch.square),
        ("lfssd", lambda net, x, y: net(x).norm() ** 2, torch.abs),
    ],
)
def test_dampening(name, value, size):
    dampened = []

    def by_hand(net, g):
        of_f, of_d = (mean_of(net, rows, value, size) for rows in (FORGET, BOTH))
        with torch.no_grad():
            for p, f, d in zip(net.parameters(), of_f, of_d, strict=True):
                for index in torch.nonzero(f > 1.5 * d):
                    i = tuple(index.tolist())
                    p[i] *= min(0.8 * float(d[i]) / float(f[i]), 1.0)
                    dampened.append(i)
        return net

    model, epochs, forget, retain = run(name, alpha=1.5, lam=0.8)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (1, 7, 33)
    assert 100 < len(dampened) < 2 * 9000


def test_a_large_lambda_never_makes_weights_larger():
    model, *_ = run("ssd", alpha=1.0, lam=100.0)
    for state, before in zip(model.states(), ensemble()[0].states(), strict=True):
        assert all(torch.equal(state[n], before[n]) for n in state)


def test_fisher():
    """Information: the mean over R and over classes of squared scores, by the model's own law."""

    def by_hand(net, g):
        total = [torch.zeros_like(p) for p in net.parameters()]
        for i in RETAIN:
            p = net(X[i : i + 1]).softmax(1)[0].detach()
            for c in range(10):
                log_p = net(X[i : i + 1]).log_softmax(1)[0, c]
                scores = torch.autograd.grad(log_p, list(net.parameters()))
                for t, s in zip(total, scores, strict=True):
                    t += p[c] * s**2 / len(RETAIN)
        torch.randperm(33, generator=g)  # the order of R
        with torch.no_grad():
            for p, f in zip(net.parameters(), total, strict=True):
                variance = 1e-4 * torch.clamp(1 / f, max=5e3)
                p += variance.sqrt() * torch.randn(p.shape, generator=g)
        return net

    model, epochs, forget, retain = run("fisher", alpha=1e-4, largest=5e3)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (1, 0, 33)


def small():
    """Few parameters, and trained a little, so that the whole Hessian can be inverted."""
    return nn.Sequential(nn.Linear(64, 2), nn.Tanh(), nn.Linear(2, 10))


@pytest.mark.parametrize("damping", [3.0, 5.0])
def test_influence_is_a_newton_step(damping):
    states = [initial_state(small, i) for i in MEMBERS]
    gens = streams()
    model = Ensemble(small, states, MEMBERS, gens).train()
    forget, retain = (Points(X, Y, rows, gens) for rows in (FORGET, RETAIN))
    for _ in BUILT_IN["influence"](
        model, forget, retain, alpha=0.7, damping=damping, iterations=200, batch_size=11
    ):
        pass
    for before, after in zip(states, model.states(), strict=True):
        sizes = [v.numel() for v in before.values()]

        def loss_at(theta, rows, before=before, sizes=sizes):
            parts = zip(theta.split(sizes), before.items(), strict=True)
            named = {n: t.view_as(v) for t, (n, v) in parts}
            return F.cross_entropy(
                torch.func.functional_call(small(), named, (X[rows],)), Y[rows], reduction="sum"
            )

        theta = torch.cat([v.flatten() for v in before.values()])
        hessian = torch.autograd.functional.hessian(lambda t: loss_at(t, RETAIN) / 33, theta)
        hessian += damping * torch.eye(len(theta))
        assert torch.linalg.eigvalsh(hessian)[0] > 0  # else conjugate gradients stop early
        slope = torch.autograd.functional.jacobian(lambda t: loss_at(t, FORGET), theta)
        wanted = theta + 0.7 * torch.linalg.solve(hessian, slope / 33)
        got = torch.cat([v.flatten() for v in after.values()])
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-8)
        assert (got - theta).norm() > 1e-3


def test_influence_stops_at_negative_curvature():
    """Without damping the Hessian of an untrained net has negative eigenvalues: still finite."""
    model, *_ = run("influence", damping=0.0, iterations=30)
    assert all(v.isfinite().all() for state in model.states() for v in state.values())


def test_boundary_shrink():
    labels = set()

    def by_hand(net, g):
        original = mlp()
        original.load_state_dict(net.state_dict())
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                x_free = x.clone().requires_grad_()
                F.cross_entropy(original(x_free), y).backward()
                z = original(x + 0.4 * x_free.grad.sign()).detach()
                nearest = torch.tensor(
                    [
                        max((c for c in range(10) if c != t), key=lambda c: row[c])
                        for row, t in zip(z, y.tolist(), strict=True)
                    ]
                )
                labels.update(nearest.tolist())
                one(F.cross_entropy(net(x), nearest))
        return net

    model, epochs, forget, retain = run(
        "boundary_shrink",
        bound=0.4,
        lr=0.05,
        epochs=2,
        batch_size=4,
        momentum=0.9,
        weight_decay=0.01,
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 0)
    assert len(labels) > 2


@pytest.mark.parametrize("name", ["ssd", "lfssd", "fisher"])
def test_importances_of_any_network(name):
    """A net that is no chain of linear layers goes another way, and must get as far."""

    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = mlp()

        def forward(self, x):
            return self.inner(x)

    settings = {"fisher": {"alpha": 1e-4}}.get(name, {"alpha": 1.5})
    plain, *_ = run(name, **settings)
    states = [{f"inner.{n}": v for n, v in s.items()} for s in ensemble()[0].states()]
    gens = streams()
    model = Ensemble(Wrapped, states, MEMBERS, gens).train()
    points = [Points(X, Y, rows, gens) for rows in (FORGET, RETAIN)]
    for _ in BUILT_IN[name](model, *points, **settings):
        pass
    for one, other in zip(plain.states(), model.states(), strict=True):
        for key, value in one.items():
            torch.testing.assert_close(other[f"inner.{key}"], value, rtol=1e-7, atol=1e-9)


def test_a_member_that_meets_negative_curvature_stops_alone():
    diagonals = torch.tensor([[2.0, 3.0], [-1.0, -2.0], [4.0, -4.0]])
    b = [torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.1]])]
    (x,) = conjugate_gradients(lambda v: [diagonals * v[0]], b, 10)
    torch.testing.assert_close(x[0], torch.tensor([1 / 2, 1 / 3]))
    assert torch.equal(x[1], torch.zeros(2))
    step = (1 + 0.01) / (4 - 0.04)  # of steepest descent: the curvature along b is positive
    torch.testing.assert_close(x[2], step * b[0][2])


def test_the_nearest_wrong_class_is_wrong_where_the_attack_fails():
    def identity():
        return nn.Sequential(nn.Linear(3, 3, bias=False))

    f0 = Ensemble(identity, [{"0.weight": torch.eye(3)}])
    x, y = torch.tensor([[[5.0, 2.0, 1.0], [0.0, 1.0, 9.0]]]), torch.tensor([[0, 2]])
    assert nearest_wrong(f0, x, y, 0.0).tolist() == [[1, 1]]
    assert nearest_wrong(f0, x, y, 100.0).tolist() == [[1, 1]]
