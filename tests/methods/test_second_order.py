"""Fisher information and influence, against closed forms."""

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
    run,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.methods import BUILT_IN
from klom_bench.methods.influence import conjugate_gradients

pytestmark = pytest.mark.usefixtures("double")


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


def test_iu():
    """A recursion over single examples of R, from the second on, with a damping of one."""

    def by_hand(net, g):
        def slope(rows, reduction):
            value = F.cross_entropy(net(X[rows]), Y[rows], reduction=reduction)
            return torch.cat([p.flatten() for p in torch.autograd.grad(value, [*net.parameters()])])

        for rows in (FORGET, RETAIN):
            torch.randperm(len(rows), generator=g)  # two means, in any order
        k = (slope(FORGET, "sum") - 7 / 33 * slope(RETAIN, "sum")) / 40
        start = k.clone()
        first, *others = RETAIN[torch.randperm(33, generator=g)][:20]
        o = slope(first.view(1), "mean")
        for i in others:
            s = slope(i.view(1), "mean")
            k = k - (k @ s) / (18 + o @ s) * o
            o = o - (o @ s) / (18 + o @ s) * o
        assert (k - start).norm() > 0.01 * start.norm()
        theta = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
        torch.nn.utils.vector_to_parameters(theta + 0.7 * k, net.parameters())
        return net

    model, epochs, forget, retain = run("iu", alpha=0.7, examples=20, batch_size=11)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (1, 7, 33 + 20)


def test_a_member_that_meets_negative_curvature_stops_alone():
    diagonals = torch.tensor([[2.0, 3.0], [-1.0, -2.0], [4.0, -4.0]])
    b = [torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.1]])]
    (x,) = conjugate_gradients(lambda v: [diagonals * v[0]], b, 10)
    torch.testing.assert_close(x[0], torch.tensor([1 / 2, 1 / 3]))
    assert torch.equal(x[1], torch.zeros(2))
    step = (1 + 0.01) / (4 - 0.04)  # of steepest descent: the curvature along b is positive
    torch.testing.assert_close(x[2], step * b[0][2])
