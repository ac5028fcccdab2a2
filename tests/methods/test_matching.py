"""Oracle matching and datamodels, against regressions by hand."""

import pytest
import torch
from helpers.by_hand import (
    FORGET,
    MEMBERS,
    RETAIN,
    X,
    Y,
    adam,
    agrees,
    ensemble,
    run,
)

from klom_bench.ensemble.ensemble import evaluating
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.models.mlp import mlp
from klom_bench.tasks.task import Data

pytestmark = pytest.mark.usefixtures("double")


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
    torch.testing.assert_close(known.removal(FORGET, ridge), wanted, rtol=1e-9, atol=1e-9)


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
