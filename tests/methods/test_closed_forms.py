"""Methods that are no plain descent, against their formulas, one model and one example at a time."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import (
    FORGET,
    MEMBERS,
    RETAIN,
    X,
    Y,
    agrees,
    batches,
    ensemble,
    momentum_sgd,
    run,
    streams,
)
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.boundary import nearest_wrong
from klom_bench.methods.influence import conjugate_gradients
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.models.cnn import cnn
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS
from klom_bench.tasks.task import Data

pytestmark = pytest.mark.usefixtures("double")
BOTH = torch.cat([FORGET, RETAIN])


def gradients_one_by_one(net, rows, value):
    """The gradient of value(net, x, y) for each example: one list of tensors an example."""
    for i in rows:
        yield torch.autograd.grad(value(net, X[i : i + 1], Y[i : i + 1]), list(net.parameters()))


def mean_of(net, rows, value, size):
    found = [[size(g) for g in gs] for gs in gradients_one_by_one(net, rows, value)]
    return [torch.stack(column).mean(0) for column in zip(*found, strict=True)]


def loss(net, x, y):
    return F.cross_entropy(net(x), y)


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


def targets_by_hand(net, g, target, rows_of_f, lr):
    """Two epochs towards target[point], R' drawn anew, the rate x .9 after each."""
    one = adam(list(net.parameters()), lr)
    for epoch in range(2):
        some = RETAIN[torch.randperm(33, generator=g)[:14]]
        every = torch.cat([*[FORGET] * rows_of_f, some])
        for rows in every[torch.randperm(len(every), generator=g)].split(8):
            distance = ((net(X[rows]) - target[rows]) ** 2).sum(1).mean()
            one(distance, lr * 0.9**epoch)
    return net


@pytest.mark.parametrize("target", ["member", "mean"])
def test_oracle_matching(target):
    logits = torch.randn((3, 40, 10), generator=torch.Generator().manual_seed(0))
    given = oracles_for([0, 1], logits, Y[:40])
    runs = iter(MEMBERS)

    def by_hand(net, g):
        g_i = logits[next(runs)] if target == "member" else logits.mean(0)
        return targets_by_hand(net, g, g_i, 1, 0.01)

    settings = {"ratio": 2.0, "lr": 0.01, "epochs": 2, "batch_size": 8, "decay": 0.9}
    model, epochs, forget, retain = run("oracle_matching", oracles=given, target=target, **settings)
    agrees(model, by_hand)
    assert (epochs, forget.seen, retain.seen) == (2, 14, 28)


def test_the_oracles_margins_are_theirs():
    logits = torch.randn((3, 50, 10), generator=torch.Generator().manual_seed(0))
    given = oracles_for([2, 3], logits, Y[:40])
    assert torch.equal(given.logits, logits[[2, 0], :40])
    assert given.margins.shape == (2, 40)
    z, y = logits[2, 5], int(Y[5])
    others = torch.cat([z[:y], z[y + 1 :]])
    assert float(given.margins[0, 5]) == pytest.approx(float(z[y] - others.logsumexp(0)), rel=1e-5)


def linear_world(models=300, points=40, noise=0.1):
    """Models whose logits are linear in what they saw: effects[z] is what point z adds."""
    g = torch.Generator().manual_seed(1)
    effects = torch.randn((points, points + 5, 10), generator=g)
    masks = torch.rand((models, points), generator=g) < 0.5
    logits = torch.tensordot(masks.double(), effects, 1) + 3
    logits = logits + noise * torch.randn(logits.shape, generator=g)
    data = Data(X[:points], Y[:points], X[points : points + 5], Y[points : points + 5], "")
    return effects, Datamodels(masks.numpy(), logits, data)


def test_datamodels_find_what_points_add():
    effects, known = linear_world()
    found = known.removal(FORGET, 0.0)
    torch.testing.assert_close(found, effects[FORGET].sum(0), rtol=0, atol=0.15)


@pytest.mark.parametrize(("models", "ridge"), [(80, 0.0), (80, 0.1), (30, 0.1)])
def test_datamodels_are_least_squares(models, ridge):
    """The weights of the models give what regressing every logit on the masks gives."""
    _, known = linear_world(models=models)
    a = torch.from_numpy(known.masks).double()
    a -= a.mean(0)
    z = known.logits.flatten(1) - known.logits.flatten(1).mean(0)
    tau = torch.linalg.solve(a.T @ a + models * ridge * torch.eye(40), a.T @ z)
    wanted = tau[FORGET].sum(0).view(45, 10)
    torch.testing.assert_close(known.removal(FORGET, ridge), wanted, rtol=1e-7, atol=1e-9)


def test_dm_direct():
    effects, known = linear_world(noise=0.0)
    model, forget, retain = ensemble()
    before = model.states()
    (f,) = BUILT_IN["dm_direct"](model, forget, retain, datamodels=known, subsets=250, ridge=0.0)
    x = X[[44, 3, 41]]  # val and train points, in any order
    with evaluating(model):
        got = f(x.expand(2, -1, -1))
    for i, state in enumerate(before):
        net = mlp()
        net.load_state_dict(state)
        wanted = net(x) - effects[FORGET].sum(0)[[44, 3, 41]]
        torch.testing.assert_close(got[i], wanted, rtol=1e-6, atol=1e-6)
    assert (forget.seen, retain.seen) == (0, 0)
    with pytest.raises(KlomError, match="datamodels are of the task's own points"):
        f(X[[50]].expand(2, -1, -1))
    different = torch.stack([x, x.flip(0)])
    torch.testing.assert_close(f(different)[1], f(x.flip(0).expand(2, -1, -1))[1])


def test_datamodels_use_as_many_models_as_asked():
    _, known = linear_world(noise=1.0)
    assert not torch.allclose(known.first(60).removal(FORGET, 0.01), known.removal(FORGET, 0.01))


def test_dmm():
    _, known = linear_world()
    change = known.first(200).removal(FORGET, 0.02)[:40]

    def by_hand(net, g):
        target = net(X[:40]).detach() - change
        return targets_by_hand(net, g, target, 3, 0.01)

    data_points = X[:40]
    model, *_ = ensemble()
    gens = model.generators
    forget, retain = (Points(data_points, Y[:40], rows, gens) for rows in (FORGET, RETAIN))
    for _ in BUILT_IN["dmm"](
        model,
        forget,
        retain,
        datamodels=known,
        subsets=200,
        ridge=0.02,
        ratio=2.0,
        repeats=3,
        lr=0.01,
        epochs=2,
        batch_size=8,
        decay=0.9,
    ):
        pass
    agrees(model, by_hand)
    assert (forget.seen, retain.seen) == (42, 28)


def test_classes_are_told_from_other_sets():
    assert DIGITS.is_class(DIGITS.forget_set("class_9"))
    assert not DIGITS.is_class(DIGITS.forget_set("forget_set_10"))
    assert set(DIGITS.data.y_train[DIGITS.forget_set("class_9").indices].tolist()) == {9}


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
