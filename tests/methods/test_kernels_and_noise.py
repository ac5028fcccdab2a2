"""Methods for conv layers and whole classes, against their rules by hand."""

import numpy as np
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
    ensemble,
    momentum_sgd,
    run,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.models.cnn import cnn
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS

pytestmark = pytest.mark.usefixtures("double")


def test_unsir():
    nines = torch.tensor([i for i in range(60) if Y[i] == 9])
    others = torch.tensor([i for i in range(60) if Y[i] != 9])

    def by_hand(net, g):
        torch.randperm(len(nines), generator=g)  # one look at F, for its class
        noise = torch.randn((16, 64), generator=g).requires_grad_()
        original = mlp()
        original.load_state_dict(net.state_dict())
        learn, c = adam([noise], 0.1), torch.full((16,), 9)
        for _ in range(3):
            learn(0.2 * (noise**2).sum(1).mean() - F.cross_entropy(original(noise), c))
        for lr, n in ((0.02, 16), (0.01, 0)):
            one = adam(list(net.parameters()), lr)
            for x, y in batches(others, 16, g):
                k = min(n, len(y))
                x, y = torch.cat([x, noise[:k].detach()]), torch.cat([y, c[:k]])
                one(F.cross_entropy(net(x), y))
        return net

    model, *_ = ensemble()
    gens = model.generators
    forget, retain = (Points(X, Y, rows, gens) for rows in (nines, others))
    for _ in BUILT_IN["unsir"](
        model,
        forget,
        retain,
        noise_lr=0.1,
        noise_steps=3,
        penalty=0.2,
        impair_lr=0.02,
        repair_lr=0.01,
        noise_size=16,
        batch_size=16,
    ):
        pass
    agrees(model, by_hand)
    assert (forget.seen, retain.seen) == (0, 2 * len(others))


def conv_members():
    gens = streams()
    model = Ensemble(cnn, [initial_state(cnn, i) for i in MEMBERS], MEMBERS, gens).train()
    images = X.view(-1, 1, 8, 8)
    return model, *(Points(images, Y, rows, gens) for rows in (FORGET, RETAIN))


def conv_by_hand(i):
    net = cnn()
    net.load_state_dict(initial_state(cnn, i))
    return net.train(), streams()[i]


def kernels_of(net):
    return [m.weight for m in net.modules() if isinstance(m, nn.Conv2d)]


def conv_agrees(model, by_hand):
    for i, state in zip(MEMBERS, model.states(), strict=True):
        for name, value in by_hand(*conv_by_hand(i)).state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-7, atol=1e-9)


def images(rows, size, g):
    for x, y in batches(rows, size, g):
        yield x.view(-1, 1, 8, 8), y


CONV = {"epochs": 3, "batch_size": 11, "momentum": 0.9, "weight_decay": 0.01}


def test_ct():
    """The learning rate falls on a cosine: 1, .75, .25 of what it was in three epochs."""

    def by_hand(net, g):
        with torch.no_grad():
            for w in kernels_of(net):
                for out in w:
                    for kernel in out:
                        kernel.copy_(torch.tensor(np.transpose(kernel.numpy().copy())))
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for share in (1, 0.75, 0.25):
            for x, y in images(RETAIN, 11, g):
                one(F.cross_entropy(net(x), y), 0.05 * share)
        return net

    model, forget, retain = conv_members()
    for _ in BUILT_IN["ct"](model, forget, retain, lr=0.05, **CONV):
        pass
    conv_agrees(model, by_hand)
    assert (forget.seen, retain.seen) == (0, 99)


def test_msg():
    def by_hand(net, g):
        slopes = []
        net.eval()
        for rows in (RETAIN, FORGET):
            torch.randperm(len(rows), generator=g)
            total = F.cross_entropy(net(X[rows].view(-1, 1, 8, 8)), Y[rows])
            slopes.append(torch.autograd.grad(total, kernels_of(net)))
        net.train()
        fresh = cnn()
        fresh.load_state_dict(initial_state(cnn, int(torch.randint(2**62, (), generator=g))))
        differences = [(r - f).abs() for r, f in zip(*slopes, strict=True)]
        every = torch.cat([d.flatten() for d in differences]).sort().values
        most = every[round(0.3 * len(every)) - 1]
        rates = []
        with torch.no_grad():
            for w, new, d in zip(kernels_of(net), kernels_of(fresh), differences, strict=True):
                w[d <= most] = new[d <= most]
                rates.append(torch.where(d <= most, 1.0, 0.2))
        parameters, slow = list(net.parameters()), iter(rates)
        rate = [next(slow) if p.ndim == 4 else torch.ones_like(p) for p in parameters]
        velocity = [torch.zeros_like(p) for p in parameters]
        for _ in range(3):
            for x, y in images(RETAIN, 11, g):
                gradients = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
                with torch.no_grad():
                    for p, grad, v, r in zip(parameters, gradients, velocity, rate, strict=True):
                        v.mul_(0.9).add_(grad * r + 0.01 * p)
                        p -= 0.05 * v
        return net

    model, forget, retain = conv_members()
    for _ in BUILT_IN["msg"](model, forget, retain, share=0.3, slow=0.2, lr=0.05, **CONV):
        pass
    conv_agrees(model, by_hand)
    assert (forget.seen, retain.seen) == (7, 33 + 99)


@pytest.mark.parametrize("name", ["ct", "msg"])
def test_no_kernels_to_change(name):
    with pytest.raises(KlomError, match="needs conv layers, and the network has none"):
        run(name)


def test_kernels_that_cannot_be_transposed():
    def oblong():
        return nn.Sequential(nn.Conv2d(1, 2, (3, 1)), nn.Flatten(), nn.Linear(96, 10))

    model = Ensemble(oblong, [initial_state(oblong, 0)]).train()
    points = Points(X.view(-1, 1, 8, 8), Y, FORGET, model.generators)
    with pytest.raises(KlomError, match=r"0\.weight is 3 x 1: it needs square ones"):
        next(BUILT_IN["ct"](model, points, points))


def test_classes_are_told_from_other_sets():
    assert DIGITS.is_class(DIGITS.forget_set("class_9"))
    assert not DIGITS.is_class(DIGITS.forget_set("forget_set_10"))
    assert set(DIGITS.data.y_train[DIGITS.forget_set("class_9").indices].tolist()) == {9}
