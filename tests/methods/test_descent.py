"""What all gradient methods have in common: each switch by hand, and in each method."""

import functools

import pytest
import torch
import torch.nn.functional as F
from helpers.any_method import any_method, normed
from helpers.by_hand import FORGET, agrees, batches, ensemble, run
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from klom_bench import per_model
from klom_bench.ensemble.ensemble import initial_state
from klom_bench.ensemble.switches import gradient_method
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method_of

pytestmark = pytest.mark.usefixtures("double")
SWITCHED = [n for n, m in BUILT_IN.items() if m.descends]


NO_DESCENT = {
    *("do_nothing", "retrain", "ssd", "lfssd", "assd", "fisher", "influence", "iu", "dm_direct")
}
"""They follow no gradient, so they take no `descent`."""


def test_all_gradient_methods_have_them():
    assert set(SWITCHED) == set(BUILT_IN) - NO_DESCENT


def plain(net, loss, lr, shrink=None):
    gradients = torch.autograd.grad(loss, list(net.parameters()))
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    scale = min(1.0, shrink / float(norm)) if shrink else 1.0
    with torch.no_grad():
        for p, g in zip(net.parameters(), gradients, strict=True):
            p -= lr * scale * g
    return float(norm)


def test_gradients_are_clipped_member_by_member():
    norms = []

    def by_hand(net, g):
        for _ in range(2):
            for x, y in batches(FORGET, 4, g):
                norms.append(plain(net, -F.cross_entropy(net(x), y), 0.05, shrink=2.3))
        return net

    model, *_ = run("ga", lr=0.05, epochs=2, batch_size=4, max_norm=2.3)
    agrees(model, by_hand)
    assert min(norms) < 2.3 < max(norms)  # some are clipped, some are not


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [("linear", (1, 0.75, 0.5, 0.25)), ("cosine", (1, 0.5 + 2**-1.5, 0.5, 0.5 - 2**-1.5))],
)
def test_the_learning_rate_falls(schedule, shares):
    def by_hand(net, g):
        for share in shares:
            for x, y in batches(FORGET, 4, g):
                plain(net, -F.cross_entropy(net(x), y), 0.05 * share)
        return net

    model, *_ = run("ga", lr=0.05, epochs=4, batch_size=4, schedule=schedule)
    agrees(model, by_hand)


def test_a_schedule_goes_on_top_of_the_methods_own():
    """SCRUB's rate falls to a tenth after the second epoch, and linearly over all four."""
    rates = []

    hook = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    try:
        run(
            "scrub",
            lr=0.4,
            epochs=4,
            max_epochs=0,
            batch_size=64,
            decay_epochs=(2,),
            schedule="linear",
        )
    finally:
        hook.remove()
    assert rates == pytest.approx([0.4, 0.3, 0.02, 0.01])


def test_another_optimizer():
    def by_hand(net, g):
        m, v = ([torch.zeros_like(p) for p in net.parameters()] for _ in range(2))
        for t in (1, 2, 3, 4):
            if t % 2:
                order = batches(FORGET, 4, g)
            x, y = next(order)
            gradients = torch.autograd.grad(-F.cross_entropy(net(x), y), list(net.parameters()))
            with torch.no_grad():
                for p, a, b, grad in zip(net.parameters(), m, v, gradients, strict=True):
                    a.mul_(0.9).add_(0.1 * grad)
                    b.mul_(0.999).add_(0.001 * grad**2)
                    p -= 0.01 * (a / (1 - 0.9**t)) / ((b / (1 - 0.999**t)).sqrt() + 1e-8)
        return net

    model, *_ = run("ga", lr=0.01, epochs=2, batch_size=4, optimizer="adam")
    agrees(model, by_hand)


def small_run(name, **settings):
    return any_method(name, **settings)[0].states()


@pytest.mark.parametrize("name", SWITCHED)
def test_every_gradient_method_heeds_every_switch(name):
    usual = BUILT_IN[name].hyperparameters
    others = {
        "optimizer": "sgd" if usual["optimizer"] == "adam" else "adam",
        "schedule": "linear",
        "max_norm": 1e-3,
        "freeze_batchnorm": True,
    }
    before = small_run(name)
    for switch, value in others.items():
        if switch not in usual:
            assert (switch, name) == ("schedule", "unsir")
            continue
        after = small_run(name, **{switch: value})
        assert any(not torch.equal(before[0][k], after[0][k]) for k in before[0]), switch


@pytest.mark.parametrize("name", SWITCHED)
def test_frozen_statistics_stay(name):
    frozen, moved = small_run(name, freeze_batchnorm=True), small_run(name)
    start = initial_state(normed, 0)
    for statistic in ("4.running_mean", "4.running_var"):
        assert torch.equal(frozen[0][statistic], start[statistic])
        assert not torch.equal(moved[0][statistic], start[statistic])


def test_switches_of_the_outer_method_hold():
    """cf_k is finetune inside: it must not fall back to finetune's own defaults."""
    slow, fast = small_run("cf_k", max_norm=1e-6), small_run("cf_k")
    start = initial_state(normed, 0)
    moved = [(s[0]["6.weight"] - start["6.weight"]).norm() for s in (slow, fast)]
    assert moved[0] < moved[1]


def test_a_method_leaves_nothing_behind():
    model, forget, retain = ensemble()
    epochs = BUILT_IN["ga"](model, forget, retain, freeze_batchnorm=True)
    next(epochs)
    assert model._forward_pre_hooks
    epochs.close()
    assert not model._forward_pre_hooks


def test_a_method_of_the_users_may_have_them():
    def mine(model, forget, retain, *, lr=0.1, descent=Descent(max_norm=2.0)):
        yield

    method = method_of("mine", mine)
    assert method.hyperparameters == {
        "lr": 0.1,
        "optimizer": "sgd",
        "schedule": "constant",
        "max_norm": 2.0,
        "freeze_batchnorm": False,
    }
    with pytest.raises(KlomError, match="unknown optimizer 'adm': did you mean adam"):
        method.values({"optimizer": "adm"}, {})


def test_descent_is_what_its_fields_say():
    def mine(model, forget, retain, *, descent=Descent(max_norm=2.0, schedule=None)):
        seen.append(descent)
        yield

    seen = []
    method = method_of("mine", mine)
    assert "schedule" not in method.hyperparameters
    for given in ({}, {"optimizer": "adam"}, {"descent": Descent(optimizer="adam")}):
        [*method(nn.Linear(1, 1), None, None, **given)]
    assert seen == [
        Descent(max_norm=2.0, schedule=None),
        Descent(max_norm=2.0, schedule=None, optimizer="adam"),
        Descent(optimizer="adam"),
    ]


def test_a_descent_that_cannot_be_is_refused():
    def mine(model, forget, retain, *, max_norm=1.0, descent=Descent()):
        yield

    with pytest.raises(KlomError, match="which has max_norm: leave these out"):
        method_of("mine", mine)
    with pytest.raises(TypeError, match="`descent` has optimizer already"):
        BUILT_IN["ga"](nn.Linear(1, 1), None, None, descent=Descent(), optimizer="adam")
    with pytest.raises(KlomError, match="takes `descent`, which is for ensembles"):

        @per_model
        def single(model, forget, retain, *, descent=Descent()):
            pass


def test_a_hyperparameter_may_be_called_so():
    def mine(model, forget, retain, *, descent=5):
        yield

    assert method_of("mine", mine).hyperparameters == {"descent": 5}


def test_older_switches_are_hyperparameters():
    def older(model, forget, retain, *, lr=0.1):
        seen.append(bool(model._forward_pre_hooks))
        yield

    seen = []
    with pytest.warns(DeprecationWarning, match="gradient_method"):
        decorate = gradient_method(without=("schedule",), max_norm=2.0)
    mine = decorate(older)
    own = {"lr": 0.1, "optimizer": "sgd", "max_norm": 2.0, "freeze_batchnorm": False}
    assert method_of("mine", mine).hyperparameters == own
    frozen = method_of("mine", functools.partial(mine, freeze_batchnorm=True))
    assert frozen.hyperparameters == own | {"freeze_batchnorm": True}
    model, forget, retain = ensemble()
    [*frozen(model, forget, retain)]
    assert seen == [True]
    assert not model._forward_pre_hooks
    with pytest.raises(KlomError, match="unknown optimizer 'adm'"):
        frozen.values({"optimizer": "adm"}, {})
