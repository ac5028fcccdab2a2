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
from klom_bench.tasks import DIGITS

pytestmark = pytest.mark.usefixtures("double")


def test_unsir():
    nines = torch.tensor([i for i in range(60) if Y[i] == 9])
    others = torch.tensor([i for i in range(60) if Y[i] != 9])

    def by_hand(net, g):
        torch.randperm(len(nines), generator=g)  # one look at F, for its class
        noise = torch.randn((16, 64), generator=g).requires_grad_()
        learn, c = adam([noise], 0.1), torch.full((16,), 9)
        for _ in range(3):
            learn(0.2 * (noise**2).sum(1).mean() - F.cross_entropy(net(noise), c))
        known = dict.fromkeys(range(10), 0)
        some = []
        for i in others.tolist():
            known[int(Y[i])] += 1
            if known[int(Y[i])] <= 4:
                some.append(i)
        noisy = [(noise.detach()[n], 9) for _ in range(3) for n in range(5)]
        noisy += [(X[i], Y[i]) for i in some]
        one = adam(list(net.parameters()), 0.02)
        for chosen in torch.randperm(len(noisy), generator=g).split(16):
            x, y = zip(*(noisy[n] for n in chosen), strict=True)
            one(F.cross_entropy(net(torch.stack(x)), torch.tensor(y)))
        one = adam(list(net.parameters()), 0.01)
        for x, y in batches(torch.tensor(some), 16, g):
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
        noise_used=5,
        copies=3,
        per_class=4,
        batch_size=16,
    ):
        pass
    agrees(model, by_hand)
    assert (forget.seen, retain.seen) == (0, 3 * 5 + 2 * 36)


def test_unsir_learns_noise_in_train_mode():
    """As the notebook does, so that BatchNorm's statistics see it."""

    def net():
        return nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))

    def passes(steps):
        gens = streams()
        model = Ensemble(net, [initial_state(net, i) for i in MEMBERS], MEMBERS, gens).train()
        points = [Points(X, Y, torch.nonzero(rows)[:20, 0], gens) for rows in (Y == 9, Y != 9)]
        for _ in BUILT_IN["unsir"](model, *points, noise_steps=steps, noise_size=16):
            pass
        return model.states()[0]["1.num_batches_tracked"]

    assert passes(5) - passes(2) == 3


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
            torch.testing.assert_close(state[name], value, rtol=1e-9, atol=1e-9)


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
    """Sums of batch gradients; a mask a layer; normal weights; up and down with the rate."""
    masked = []

    def by_hand(net, g):
        some = RETAIN[torch.randperm(33, generator=g)[:7]]
        sums = []
        for rows in (some, FORGET):
            total = [torch.zeros_like(w) for w in kernels_of(net)]
            for x, y in images(rows, 4, g):
                found = torch.autograd.grad(F.cross_entropy(net(x), y), kernels_of(net))
                total = [a + b for a, b in zip(total, found, strict=True)]
            sums.append(total)
        rates = []
        for w, r, f in zip(kernels_of(net), *sums, strict=True):
            order = (r - f).abs().flatten().argsort()
            mask = torch.zeros(w.numel(), dtype=torch.bool)
            mask[order[: round(0.3 * w.numel())]] = True
            mask = mask.view_as(w)
            masked.append(float(mask.double().mean()))
            new = torch.randn(w.shape, generator=g) * (2 / (len(w) * 9)) ** 0.5
            with torch.no_grad():
                w[mask] = new[mask]
            rates.append(torch.where(mask, 1.0, 0.2))
        parameters, slow = list(net.parameters()), iter(rates)
        rate = [next(slow) if p.ndim == 4 else torch.ones_like(p) for p in parameters]
        velocity = [torch.zeros_like(p) for p in parameters]
        for of_lr in (1 / 2, 1, 1 / 2):
            for x, y in images(RETAIN, 4, g):
                gradients = torch.autograd.grad(F.cross_entropy(net(x), y), parameters)
                with torch.no_grad():
                    for p, grad, v, r in zip(parameters, gradients, velocity, rate, strict=True):
                        v.mul_(0.9).add_(grad * r + 0.01 * p)
                        p -= 0.05 * of_lr * v
        return net

    model, forget, retain = conv_members()
    settings = {**CONV, "batch_size": 4}
    for _ in BUILT_IN["msg"](model, forget, retain, share=0.3, slow=0.2, lr=0.05, **settings):
        pass
    conv_agrees(model, by_hand)
    assert (forget.seen, retain.seen) == (7, 7 + 99)
    assert all(share == pytest.approx(0.3, abs=0.03) for share in masked)


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
