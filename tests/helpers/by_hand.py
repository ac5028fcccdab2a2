"""A few members on a few points, and single models to do the same by hand."""

from functools import cache

import torch
import torch.nn.functional as F

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.seeds import generator, member_seed
from klom_bench.methods import BUILT_IN
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS

MEMBERS = range(2)
X, Y = DIGITS.data.x_train.double(), DIGITS.data.y_train
FORGET, RETAIN = torch.arange(0, 7), torch.arange(7, 40)


def streams():
    return [generator("order", i) for i in MEMBERS]


def drawn(i):
    """The weights of a member that nothing has trained."""
    return initial_state(mlp, member_seed("rule", i))


@cache
def trained(i):
    """Those of one that knows most of its points, and has small gradients on R."""
    net = mlp()
    net.load_state_dict(drawn(i))
    for _ in range(300):
        step(net, F.cross_entropy(net(X[:40]), Y[:40]), 0.5)
    return net.state_dict()


def ensemble(start=drawn):
    states = [start(i) for i in MEMBERS]
    gens = streams()
    model = Ensemble(mlp, states, MEMBERS, gens).train()
    return model, *(Points(X, Y, rows, gens) for rows in (FORGET, RETAIN))


def run(name, start=drawn, **settings):
    """A built-in method with these settings on new members: model, epochs, forget, retain."""
    model, forget, retain = ensemble(start)
    epochs = sum(1 for _ in BUILT_IN[name](model, forget, retain, **settings))
    return model, epochs, forget, retain


def single(i, start=drawn):
    net = mlp()
    net.load_state_dict(start(i))
    return net, streams()[i]


def batches(rows, size, g):
    order = rows[torch.randperm(len(rows), generator=g)]
    for chosen in order.split(size):
        yield X[chosen], Y[chosen]


def step(net, loss, lr):
    """Plain gradient descent, by hand."""
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    with torch.no_grad():
        for p, g in zip(net.parameters(), gradients, strict=True):
            p -= lr * g


def agrees(model, by_hand, start=drawn):
    for i, state in zip(MEMBERS, model.states(), strict=True):
        wanted = by_hand(*single(i, start))
        for name, value in wanted.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-9)
        before = single(i, start)[0].state_dict()
        assert any(not torch.equal(state[name], before[name]) for name in state)


def momentum_sgd(net, lr, momentum, weight_decay):
    """SGD with momentum and weight decay from its textbook form; returns a step function."""
    velocity = [torch.zeros_like(p) for p in net.parameters()]

    def one(loss, lr=lr):
        gradients = torch.autograd.grad(loss, list(net.parameters()))
        with torch.no_grad():
            for p, g, v in zip(net.parameters(), gradients, velocity, strict=True):
                v.mul_(momentum).add_(g + weight_decay * p)
                p -= lr * v

    return one


def divergence(f0, f, t):
    p, q = (f0 / t).softmax(1), (f / t).softmax(1)
    return t**2 * (p * (p.log() - q.log())).sum(1).mean()


def loss(net, x, y):
    return F.cross_entropy(net(x), y)


def adam(parameters, lr):
    """Adam, as in its paper; returns a step function."""
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    t = 0

    def one(loss, lr=lr):
        nonlocal t
        t += 1
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, a, b, grad in zip(parameters, m, v, gradients, strict=True):
                a.mul_(0.9).add_(0.1 * grad)
                b.mul_(0.999).add_(0.001 * grad**2)
                p -= lr * (a / (1 - 0.9**t)) / ((b / (1 - 0.999**t)).sqrt() + 1e-8)

    return one
