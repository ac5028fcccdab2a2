"""Each method against its rule, written by hand for one model with torch's autograd alone."""

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
    divergence,
    ensemble,
    momentum_sgd,
    run,
    single,
    step,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.methods import BUILT_IN
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS

pytestmark = pytest.mark.usefixtures("double")


def test_do_nothing():
    model, epochs, forget, retain = run("do_nothing")
    assert epochs == 1
    assert forget.seen == retain.seen == 0
    for i, state in zip(MEMBERS, model.states(), strict=True):
        assert all(torch.equal(state[k], v) for k, v in single(i)[0].state_dict().items())


def test_ga():
    def by_hand(net, g):
        for _ in range(3):
            for x, y in batches(FORGET, 4, g):
                step(net, -F.cross_entropy(net(x), y), 0.05)
        return net

    model, epochs, forget, retain = run("ga", lr=0.05, epochs=3, batch_size=4)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (3, 21, 0)


def test_gda():
    def by_hand(net, g):
        for epoch in range(3):
            if epoch < 2:
                for x, y in batches(FORGET, 4, g):
                    step(net, -F.cross_entropy(net(x), y), 0.05)
            for x, y in batches(RETAIN, 8, g):
                step(net, F.cross_entropy(net(x), y), 0.05)
        return net

    model, epochs, forget, retain = run(
        "gda", lr=0.05, epochs=3, ascent_epochs=2, forget_batch_size=4, batch_size=8
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (3, 14, 99)


def test_finetune():
    def by_hand(net, g):
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for _ in range(2):
            for x, y in batches(RETAIN, 16, g):
                one(F.cross_entropy(net(x), y))
        return net

    settings = {"lr": 0.05, "epochs": 2, "batch_size": 16, "momentum": 0.9, "weight_decay": 0.01}
    model, epochs, forget, retain = run("finetune", **settings)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 0, 66)


def test_neggrad_plus():
    def by_hand(net, g):
        one = momentum_sgd(net, 0.02, 0.9, 0.0)

        def endless():
            while True:
                yield from batches(FORGET, 8, g)

        forget = endless()
        for _ in range(2):
            for x_r, y_r in batches(RETAIN, 8, g):
                x_f, y_f = next(forget)
                one(0.8 * F.cross_entropy(net(x_r), y_r) - 0.2 * F.cross_entropy(net(x_f), y_f))
        return net

    model, epochs, forget, retain = run(
        "neggrad_plus", alpha=0.8, lr=0.02, epochs=2, batch_size=8, momentum=0.9, weight_decay=0.0
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 70, 66)


def test_noisy_descent():
    def by_hand(net, g):
        for x, y in batches(RETAIN, 16, g):
            gradients = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
            norm = torch.cat([v.flatten() for v in gradients]).norm()
            assert norm > 0.3  # so that clipping shows
            with torch.no_grad():
                for p, v in zip(net.parameters(), gradients, strict=True):
                    p -= 0.1 * (v * (0.3 / norm) + 0.2 * torch.randn(p.shape, generator=g))
        return net

    model, *_ = run("noisy_descent", lr=0.1, epochs=1, batch_size=16, clip=0.3, sigma=0.2)
    agrees(model, by_hand)


def test_random_label():
    def by_hand(net, g):
        one = momentum_sgd(net, 0.05, 0.9, 0.0)
        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                wrong = (y + torch.randint(1, 10, y.shape, generator=g)) % 10
                assert not (wrong == y).any()
                one(F.cross_entropy(net(x), wrong))
            for x, y in batches(RETAIN, 4, g):
                one(F.cross_entropy(net(x), y))
        return net

    model, epochs, forget, retain = run(
        "random_label", lr=0.05, epochs=2, batch_size=4, momentum=0.9, weight_decay=0.0
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 66)


def test_scrub():
    """Three epochs, so that the second starts away from the teacher and the rate has fallen."""

    def by_hand(net, g):
        teacher = mlp()
        teacher.load_state_dict(net.state_dict())
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for epoch in range(3):
            lr = 0.05 * (0.1 if epoch >= 2 else 1.0)
            if epoch < 2:
                for x, _ in batches(FORGET, 3, g):
                    one(-divergence(teacher(x).detach(), net(x), 2.0), lr)
            for x, y in batches(RETAIN, 8, g):
                kept = divergence(teacher(x).detach(), net(x), 2.0)
                one(0.9 * F.cross_entropy(net(x), y) + 0.3 * kept, lr)
        return net

    model, epochs, forget, retain = run(
        "scrub",
        gamma=0.9,
        alpha=0.3,
        temperature=2.0,
        max_epochs=2,
        epochs=3,
        lr=0.05,
        forget_batch_size=3,
        batch_size=8,
        momentum=0.9,
        weight_decay=0.01,
        decay_epochs=(2,),
        decay=0.1,
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (3, 14, 99)


def test_retrain_starts_afresh_and_sees_only_r():
    model, forget, retain = ensemble()
    before = model.states()
    epochs = BUILT_IN["retrain"](model, forget, retain, task=DIGITS)
    next(epochs)
    assert forget.seen == 0
    for i, state in zip(MEMBERS, model.states(), strict=True):
        overlap = F.cosine_similarity(
            state["0.weight"].flatten(), before[i]["0.weight"].flatten(), dim=0
        )
        assert abs(overlap) < 0.1
    a, b = (s["0.weight"] for s in model.states())
    assert abs(F.cosine_similarity(a.flatten(), b.flatten(), dim=0)) < 0.2


ON_ALL = (
    "finetune",
    "ga",
    "gda",
    "neggrad_plus",
    "noisy_descent",
    "random_label",
    "salun",
    "scrub",
    "bad_teacher",
    "boundary_shrink",
    "l1_sparse",
)


@pytest.mark.parametrize("name", ON_ALL)
def test_gradients_reach_every_parameter(name):
    model, forget, retain = ensemble()
    before = model.states()
    for _ in BUILT_IN[name](model, forget, retain, lr=0.01, epochs=4):
        pass
    for old, new in zip(before, model.states(), strict=True):
        for key in old:
            assert not torch.equal(old[key], new[key]), key


def test_every_parameter_is_that_of_an_ensemble():
    model, *_ = ensemble()
    assert all(isinstance(p, nn.Parameter) and p.shape[0] == 2 for p in model.parameters())


def test_salun():
    """Masked weights stay what they were, in spite of momentum and weight decay."""

    def by_hand(net, g):
        before = [p.detach().clone() for p in net.parameters()]
        gradients = [torch.zeros_like(p) for p in net.parameters()]
        for x, y in batches(FORGET, 4, g):
            found = torch.autograd.grad(
                F.cross_entropy(net(x), y, reduction="sum"), net.parameters()
            )
            gradients = [a + b for a, b in zip(gradients, found, strict=True)]
        every = torch.cat([a.abs().flatten() for a in gradients]).sort(descending=True).values
        least = every[round(0.3 * len(every)) - 1]
        one = momentum_sgd(net, 0.05, 0.9, 0.01)

        def masked(loss):
            one(loss)
            with torch.no_grad():
                for p, p0, a in zip(net.parameters(), before, gradients, strict=True):
                    p[a.abs() < least] = p0[a.abs() < least]

        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                masked(
                    F.cross_entropy(net(x), (y + torch.randint(1, 10, y.shape, generator=g)) % 10)
                )
            for x, y in batches(RETAIN, 4, g):
                masked(F.cross_entropy(net(x), y))
        return net

    model, epochs, forget, retain = run(
        "salun", share=0.3, lr=0.05, epochs=2, batch_size=4, momentum=0.9, weight_decay=0.01
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 21, 66)
    moved = [
        torch.cat([(a[n] != b[n]).flatten() for n in a]).float().mean()
        for a, b in zip(model.states(), ensemble()[0].states(), strict=True)
    ]
    assert all(0.25 < share <= 0.301 for share in moved)


def test_bad_teacher():
    def by_hand(net, g):
        teacher, random = mlp(), mlp()
        teacher.load_state_dict(net.state_dict())
        random.load_state_dict(initial_state(mlp, int(torch.randint(2**62, (), generator=g))))
        some = RETAIN[torch.randperm(33, generator=g)[:10]]  # 30 % of 33
        both = torch.cat([FORGET, some])
        m, v = ([torch.zeros_like(p) for p in net.parameters()] for _ in range(2))
        t = 0
        for _ in range(2):
            for rows in both[torch.randperm(17, generator=g)].split(8):
                target = torch.where((rows < 7)[:, None], random(X[rows]), teacher(X[rows]))
                loss = divergence(target.detach(), net(X[rows]), 2.0)
                gradients = torch.autograd.grad(loss, list(net.parameters()))
                t += 1
                with torch.no_grad():  # Adam, as in its paper
                    for p, a, b, grad in zip(net.parameters(), m, v, gradients, strict=True):
                        a.mul_(0.9).add_(0.1 * grad)
                        b.mul_(0.999).add_(0.001 * grad**2)
                        p -= 0.01 * (a / (1 - 0.9**t)) / ((b / (1 - 0.999**t)).sqrt() + 1e-8)
        return net

    model, epochs, forget, retain = run(
        "bad_teacher", share=0.3, temperature=2.0, lr=0.01, epochs=2, batch_size=8
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 20)


def test_l1_sparse():
    def by_hand(net, g):
        one = momentum_sgd(net, 0.05, 0.9, 0.01)
        for t in range(2):
            for x, y in batches(RETAIN, 16, g):
                norm = sum(p.abs().sum() for p in net.parameters())
                one(F.cross_entropy(net(x), y) + 0.01 * (1 - t / 2) * norm)
        return net

    model, epochs, forget, retain = run(
        "l1_sparse", gamma=0.01, lr=0.05, epochs=2, batch_size=16, momentum=0.9, weight_decay=0.01
    )
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 0, 66)


@pytest.mark.parametrize("name", ["bad_teacher", "lotus"])
def test_points_of_one_member_are_no_others_forget_set(name):
    """Where F is each member's own, all members together are as each by itself."""
    every = torch.arange(40)
    own = [every[:7], every[20:27]]
    rest = [torch.tensor([i for i in every.tolist() if i not in f]) for f in own]
    settings = {"epochs": 2, "batch_size": 8, "lr": 0.01}
    settings |= {"unseen": 0.0} if name == "lotus" else {}

    def after(members, f, r):
        gens = [streams()[i] for i in members]
        states = [single(i)[0].state_dict() for i in members]
        model = Ensemble(mlp, states, members, gens).train()
        for _ in BUILT_IN[name](model, Points(X, Y, f, gens), Points(X, Y, r, gens), **settings):
            pass
        return model.states()

    together = after([0, 1], torch.stack(own), torch.stack(rest))
    for i in MEMBERS:
        (alone,) = after([i], own[i], rest[i])
        for key, value in alone.items():
            torch.testing.assert_close(together[i][key], value, rtol=1e-9, atol=1e-9)
