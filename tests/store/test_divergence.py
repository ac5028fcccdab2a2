"""Members and models that cannot be used."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.ensembles import CPU, ORACLES
from torch import nn

from klom_bench.ensemble.ensemble import initial_state
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError, KlomWarning
from klom_bench.models.mlp import mlp
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.members import Member
from klom_bench.store.store import Store
from klom_bench.store.training import Evaluated
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("0.weight", lambda w: w * 1e4),  # as accurate as the others, with margins far out
        ("0.bias", lambda b: b - 1e4),  # dead units: it learns nothing
        ("2.bias", lambda b: b + torch.inf),
    ],
)
def test_a_diverged_member_is_refused(store, name, change):
    """Real divergence, of one member: its weights are spoiled before training."""
    of_member_1 = initial_state(mlp, ORACLES.member_seed(1, "init"))

    def spoilt():
        model = mlp()
        state = model.state_dict()
        if all(torch.equal(value, of_member_1[key]) for key, value in state.items()):
            model.load_state_dict({**state, name: change(state[name])})
        return model

    oracles = replace(ORACLES, task=replace(DIGITS, architecture=spoilt))
    with pytest.raises(KlomError, match="member 1 of the oracles of forget_set_3 diverged"):
        store.complete([(oracles, 4)], CPU)
    assert store.manifest(oracles).members == {}
    assert not list(store.root.rglob("sd_*"))


class FailsInEvalMode(nn.Module):
    """On the points from the 200th on, which no trial before training reaches."""

    broken = True

    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        if self.broken and not self.training and len(x) > 64:
            raise ZeroDivisionError("only in eval mode")
        return self.layers(x)


def test_what_was_trained_is_kept_though_evaluation_failed(store, monkeypatch):
    task = replace(DIGITS, architecture=FailsInEvalMode, recipe=replace(DIGITS.recipe, epochs=2))
    ensemble = EnsembleId(task, "original", 0)
    with pytest.raises(ZeroDivisionError):
        store.complete([(ensemble, 3)], CPU)
    assert not store.manifest(ensemble).members
    kept = {path: path.stat().st_mtime_ns for path in store.root.rglob("sd_*")}
    assert len(kept) == 3
    monkeypatch.setattr(FailsInEvalMode, "broken", False)
    store.complete([(ensemble, 4)], CPU)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    members = store.manifest(ensemble).members
    assert [members[i].seconds is None for i in range(4)] == [True] * 3 + [False]
    assert store.held(ensemble).seconds == members[3].seconds
    afresh = Store(store.root / "afresh")
    afresh.complete([(ensemble, 4)], CPU)
    assert np.array_equal(
        afresh.held(ensemble).margins(4, CPU), store.held(ensemble).margins(4, CPU)
    )


@pytest.mark.parametrize(("mode", "training"), [("train", True), ("eval", False)])
def test_a_model_that_cannot_be_computed_is_told_before_training(store, mode, training):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = mlp()

        def forward(self, x):
            if self.training is training:
                raise ZeroDivisionError("as it happens")
            return self.layers(x)

    task = replace(DIGITS, architecture=Broken)
    text = rf"cannot be computed in {mode} mode, .*: as it happens \(.*test_divergence\.py:\d+\)"
    with pytest.raises(KlomError, match=text):
        store.complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert not store.root.exists()


def test_a_backward_pass_that_cannot_be_computed_is_told_before_training(store):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = mlp()

        def forward(self, x):
            return self.layers(x).detach()

    task = replace(DIGITS, architecture=Broken)
    with pytest.raises(KlomError, match=r"computed in train mode.*does not require grad"):
        store.complete([(EnsembleId(task, "original", 0), 2)], CPU)


def evaluated(member, accuracy, margin_size):
    nothing = np.zeros(0, np.float32)
    return Evaluated(member, nothing, nothing, {"retain": accuracy}, margin_size)


@pytest.mark.parametrize(
    ("pack", "company"),
    [
        ([(0.1, 8.0)], [(1.0, 8.0)] * 25),  # the pack's only member, among those in the store
        ([(1.0, 1e6)], [(1.0, 8.0)] * 25),
        ([(1.0, 5.0), (1.0, 1e6)], []),
        ([(0.12, 2.0)] + [(0.99, 8.0)] * 24, []),  # collapsed: it says one class of every point
        ([(float("nan"), float("nan"))] * 3, []),
        ([(0.9, float("inf"))] + [(0.99, 8.0)] * 3, []),
    ],
)
def test_divergence_is_seen_in_any_company(pack, company):
    found = [evaluated(i, *values) for i, values in enumerate(pack)]
    others = {100 + i: Member({}, {"retain": a}, s, 1.0, "") for i, (a, s) in enumerate(company)}
    with pytest.raises(KlomError, match="diverged in training"):
        refuse_diverged(ORACLES, found, others)
    refuse_diverged(
        ORACLES,
        [evaluated(0, 0.99, 9.0)],
        dict.fromkeys(range(1, 9), others.get(100)) if company else {},
    )


@pytest.mark.parametrize(
    ("pack", "weak"),
    [
        ([(0.636, 0.8), *[(0.754, 0.8)] * 4], [0]),  # two epochs of a ResNet-18
        ([(0.11, 8.0)] * 3, [0, 1, 2]),  # labels drawn by lot
        ([(0.3, 1.0), *[(0.5, 1.5)] * 4], [0]),
        ([(0.95, 7.0), *[(0.99, 9.0)] * 4], []),
    ],
)
def test_what_is_only_weak_is_no_divergence_and_is_said(pack, weak):
    found = [evaluated(i, *values) for i, values in enumerate(pack)]
    said = refuse_diverged(ORACLES, found, {})
    assert [text.partition(" of the ")[0] for text in said] == [f"member {i}" for i in weak]
    assert all("is weak: accuracy" in text for text in said)


def test_an_ensemble_without_any_learning_is_trained_kept_and_said(store):
    """Labels drawn by lot, one epoch: the first thing tried with a model of one's own."""
    data = DIGITS.data
    lot = torch.randint(10, (1438,), generator=torch.Generator().manual_seed(0))
    task = replace(
        DIGITS,
        recipe=Recipe(epochs=1, batch_size=64, lr=0.001),
        load=lambda: replace(data, y_train=lot),
    )
    with pytest.warns(KlomWarning, match="is weak: accuracy 0.1"):
        store.complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert len(store.manifest(EnsembleId(task, "original", 0)).members) == 2
