"""Methods that weigh gradients against each other, and those of adversarial examples, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers.by_hand import FORGET, RETAIN, X, Y, agrees, batches, run, trained

from klom_bench.methods.geometry import nash_weights

pytestmark = pytest.mark.usefixtures("double")


def flat_gradient(net, loss):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def flat_sgd(net, momentum, weight_decay):
    """SGD on all weights as one vector."""
    theta = torch.nn.utils.parameters_to_vector(net.parameters()).detach()
    velocity = torch.zeros_like(theta)

    def one(gradient, lr):
        nonlocal theta, velocity
        velocity = momentum * velocity + gradient + weight_decay * theta
        theta = theta - lr * velocity
        torch.nn.utils.vector_to_parameters(theta, net.parameters())

    return one


def test_munba():
    agreed = []

    def by_hand(net, g):
        one = flat_sgd(net, 0.9, 0.01)
        for _ in range(2):
            of_f = batches(FORGET, 4, g)
            for t, (x, y) in enumerate(batches(RETAIN, 4, g)):
                r = flat_gradient(net, F.cross_entropy(net(x), y))
                if t < 2:
                    x, y = next(of_f)
                    any_class = torch.randint(0, 10, y.shape, generator=g)
                    f = flat_gradient(net, F.cross_entropy(net(x), any_class))
                    rr, rf, ff = r @ r, r @ f, f @ f
                    both = rr * ff
                    a = ((both - rf * both**0.5) / (rr * both - rr * rf**2 + 1e-8)) ** 0.5
                    b = (1 - rr * a**2) / (rf * a + 1e-8)
                    agreed.append(bool(a > 0 and b > 0))
                    a, b = (a, b) if agreed[-1] else (1, 0.3)
                    r = a * r + b * f
                    r = r * min(1.0, 0.7 / float(r.norm()))
                one(r, 0.05)
        return net

    settings = {"beta": 0.3, "clip": 0.7, "lr": 0.05, "epochs": 2, "batch_size": 4}
    model, epochs, forget, retain = run(
        "munba", trained, **settings, momentum=0.9, weight_decay=0.01
    )
    agrees(model, by_hand, trained)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 66)
    assert any(agreed)


def test_the_bargain_halves_the_angle():
    """The sum is √2 long; no bargain where ∇L_R is so small that 1e-8 counts, and against ∇L_F."""
    r = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1e-3, 0.0]])
    f = torch.tensor([[-1.0, 3**0.5], [0.5, 0.75**0.5], [-1.0, 1.0]])
    a, b = nash_weights([r], [f], 0.1)
    both = a[:2, None] * r[:2] + b[:2, None] * f[:2]
    torch.testing.assert_close(both, torch.tensor([[0.5**0.5, 1.5**0.5], [1.5**0.5, 0.5**0.5]]))
    assert (a[2], b[2]) == (1.0, 0.1)


def test_sfron():
    clipped = []

    def by_hand(net, g):
        squares = []
        for rows in (FORGET, RETAIN):
            of = [flat_gradient(net, F.cross_entropy(net(x), y)) for x, y in batches(rows, 4, g)]
            squares.append(torch.stack(of).square().mean(0))
        salient = squares[0] / squares[1] >= 0.5
        assert 0.1 < salient.double().mean() < 0.9
        one, step = flat_sgd(net, 0.9, 0.01), 0

        def endless():
            while True:
                yield from batches(FORGET, 4, g)

        of_f = endless()
        for _ in range(2):
            for x_r, y_r in batches(RETAIN, 4, g):
                share = (1 + math.cos(math.pi * step / 18)) / 2
                if step % 4 == 0:
                    x, y = next(of_f)
                    each = F.cross_entropy(net(x), y, reduction="none")
                    weights = each.detach() ** -0.7
                    loss = (weights / weights.sum()) @ each
                    f = torch.where(salient, flat_gradient(net, -12 * share * loss), 0.0)
                    clipped.append(bool(f.norm() > 0.1))
                    one(f * min(1.0, 0.1 / float(f.norm())), 0.05 * share)
                one(flat_gradient(net, F.cross_entropy(net(x_r), y_r)), 0.05 * share)
                step += 1
        return net

    settings = {"alpha": 12.0, "lam": 0.7, "gamma": 0.5, "every": 4, "clip": 0.1, "batch_size": 4}
    model, epochs, forget, retain = run(
        "sfron", trained, **settings, lr=0.05, epochs=2, momentum=0.9, weight_decay=0.01
    )
    agrees(model, by_hand, trained)
    assert (epochs, forget.seen, retain.seen) == (2, 7 + 4 + 3 + 4 + 3 + 4, 99)
    assert any(clipped)


def test_amun():
    doublings = []

    def fool(net, x, y):
        """One point at a time: as far as a ball of radius eps goes, then a larger ball."""
        eps, near, steps = 0.2, x, 0
        while (label := net(near[None])[0].argmax()) == y:
            if steps == 7:
                eps, steps = 2 * eps, 0
            slope = near.clone().requires_grad_()
            (g,) = torch.autograd.grad(F.cross_entropy(net(slope[None]), y[None]), slope)
            away = near + eps / 10 * g / (g.norm() + 1e-10) - x
            near, steps = x + away * min(1.0, eps / float(away.norm())), steps + 1
        doublings.append(round(math.log2(eps / 0.2)))
        return near.detach(), label

    def by_hand(net, g):
        order = FORGET[torch.randperm(7, generator=g)]
        found = [fool(net, X[i], Y[i]) for i in order]
        x = torch.cat([X[RETAIN], X[FORGET], torch.stack([near for near, _ in found])])
        y = torch.cat([Y[RETAIN], Y[FORGET], torch.stack([label for _, label in found])])
        one = flat_sgd(net, 0.9, 0.01)
        for epoch in range(2):
            for rows in torch.randperm(47, generator=g).split(8):
                loss = F.cross_entropy(net(x[rows]), y[rows])
                one(flat_gradient(net, loss), 0.05 * 0.5**epoch)
        return net

    settings = {"bound": 0.2, "attack_steps": 7, "decay": 0.5, "lr": 0.05, "batch_size": 8}
    model, epochs, forget, retain = run(
        "amun", trained, **settings, epochs=2, momentum=0.9, weight_decay=0.01
    )
    agrees(model, by_hand, trained)
    assert (epochs, forget.seen, retain.seen) == (2, 7 + 28, 66)
    assert max(doublings) > 0
