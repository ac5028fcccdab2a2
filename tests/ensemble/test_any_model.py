"""Members of an ensemble say what each model says alone, whatever the model is."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, new_model
from klom_bench.ensemble.inputs import call, each
from klom_bench.ensemble.outputs import classification
from klom_bench.ensemble.per_example import mean_over_examples
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.stacked import SIDE_BY_SIDE, Way
from klom_bench.ensemble.training import Recipe
from klom_bench.ensemble.ways import way_for
from klom_bench.store.training import train_pack
from klom_bench.tasks.data import Data
from klom_bench.tasks.ensemble_id import EnsembleId
from tests.helpers.any_model import DROPPING, KINDS, Tied, X, Y
from tests.helpers.nets import CPU, task

MEMBERS = 3


def ensemble_of(architecture, way):
    states = [initial_state(architecture, i) for i in range(MEMBERS)]
    return Ensemble(architecture, states, way=way), states


def stacked(x):
    return each(lambda t: t.expand(MEMBERS, *t.shape).contiguous(), x)


@pytest.mark.parametrize("name", KINDS)
def test_each_member_says_and_learns_what_it_does_alone(name):
    architecture, x = KINDS[name]
    way, why = way_for(architecture, classification, x, Y)
    assert bool(why) == (not way.stacked)
    model, states = ensemble_of(architecture, way)
    model.train().loss(stacked(x), Y.expand(MEMBERS, -1)).backward()
    gradients = {n: p.grad for n, p in model.network.named_parameters()}
    after = model.states()
    for i, state in enumerate(states):
        one = new_model(architecture)
        one.load_state_dict(state)
        cross_entropy(call(one.train(), x), Y).backward()
        for key, p in one.named_parameters():
            if p.requires_grad:
                assert torch.allclose(gradients[key][i], p.grad, atol=1e-5), (name, key)
            else:
                assert key not in gradients
        for key, value in one.state_dict().items():
            assert torch.allclose(after[i][key], value, atol=1e-6), key
    with evaluating(model):
        z = model(stacked(x))
    for i, state in enumerate(after):
        one = new_model(architecture)
        one.load_state_dict(state)
        with torch.no_grad():
            assert torch.allclose(z[i], call(one.eval(), x), atol=1e-5), name


@pytest.mark.parametrize(
    ("name", "side_by_side"),
    [
        ("conv", True),
        ("tied", True),
        ("GRU", False),
        ("mixing", False),
        ("mixing first", False),
        ("hooked", False),
    ],
)
def test_members_are_side_by_side_only_where_that_is_the_same(name, side_by_side):
    architecture, x = KINDS[name]
    way, why = way_for(architecture, classification, x, Y)
    assert way.stacked is side_by_side, why


@pytest.mark.parametrize("name", ["mixing", "hooked"])
def test_side_by_side_they_would_be_wrong(name):
    """Else the test above holds nothing."""
    architecture, x = KINDS[name]
    both = [
        ensemble_of(architecture, way)[0].train()(stacked(x))
        for way in (SIDE_BY_SIDE, Way(stacked=False))
    ]
    assert not torch.allclose(*both, atol=1e-2)


def test_weights_that_are_shared_stay_shared():
    architecture, x = KINDS["tied"]
    model, _ = ensemble_of(architecture, SIDE_BY_SIDE)
    twin = model.clone()
    for one in (model, twin):
        assert len(list(one.parameters())) == 1
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        one.loss(stacked(x), Y.expand(MEMBERS, -1)).backward()
        optimizer.step()
    for state in (*model.states(), *twin.states()):
        assert torch.equal(state["words.weight"], state["last.weight"])
    assert not torch.equal(
        model.states()[0]["words.weight"], initial_state(architecture, 0)["words.weight"]
    )


@pytest.mark.parametrize("name", DROPPING)
def test_passes_draw_from_the_members_own_streams(name):
    architecture, x = DROPPING[name]
    way = Way(stacked=False, draws=True)

    def said(members, seed):
        torch.manual_seed(seed)
        states = [initial_state(architecture, 0) for _ in members]
        model = Ensemble(architecture, states, members, way=way).train()
        xs = each(lambda t: t.expand(len(members), *t.shape), x)
        return dict(zip(members, torch.stack([model(xs), model(xs)], 1), strict=True))

    all_three, alone = said([0, 1, 2], 0), said([2], 1)
    assert torch.equal(all_three[2], alone[2])
    assert not torch.equal(all_three[2][0], all_three[2][1])
    assert not torch.equal(all_three[0], all_three[1])


@pytest.mark.parametrize("name", ["GRU", "encoder"])
def test_sizes_of_single_examples_gradients(name):
    """One after the other where vmap cannot; beside one model and one example at a time."""
    architecture, x = KINDS[name]
    model, states = ensemble_of(architecture, Way(stacked=False))
    points = Points(x, Y, torch.arange(len(Y)), model.generators)

    def slopes(z, y):
        return (z.softmax(-1) - torch.nn.functional.one_hot(y, z.shape[-1])).unsqueeze(0)

    found = mean_over_examples(model, points, slopes, torch.square)
    for i, state in enumerate(states):
        one = new_model(architecture)
        one.load_state_dict(state)
        total = [torch.zeros_like(p) for p in one.parameters()]
        for j in range(len(Y)):
            one.zero_grad()
            cross_entropy(
                call(one.eval(), each(lambda t, j=j: t[j : j + 1], x)), Y[j : j + 1]
            ).backward()
            total = [t + p.grad.square() for t, p in zip(total, one.parameters(), strict=True)]
        for mine, slow in zip(found, total, strict=True):
            assert torch.allclose(mine[i], slow / len(Y), atol=1e-6)


class LeavesOut(nn.Module):
    """A layer is left out now and then, as LayerDrop does."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.last = nn.Linear(12, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.a(x)
        if not self.training or torch.rand(()) < 0.5:
            x = x + self.b(x)
        return self.last(x)


@pytest.mark.parametrize("architecture", [LeavesOut, lambda: nn.Linear(12, 3)])
def test_a_member_is_itself_in_every_pack(architecture):
    recipe = Recipe(2, 16, 0.05, optimizer="adamw", max_norm=0.5, class_weights=(1.0, 0.5, 2.0))
    mine = EnsembleId(task(architecture, recipe=recipe), "original", 0)
    nothing = lambda *_: None  # noqa: E731
    whole = train_pack(mine, list(range(5)), CPU, nothing, nothing)
    for pack in ([0], [3, 4], [1, 2, 3]):
        for one in train_pack(mine, pack, CPU, nothing, nothing):
            for name, value in whole[one.member].state.items():
                assert torch.equal(value, one.state[name]), (pack, one.member, name)


@pytest.mark.parametrize("name", ["frozen", "tied", "twice", "tokens", "frozen bias"])
def test_chains_of_linear_layers_that_are_not_so_plain(name):
    """`mean_over_examples` has a short way for plain ones."""
    shared = nn.Linear(24, 24)
    frozen_bias = nn.Sequential(nn.Linear(24, 3))
    frozen_bias[0].bias.requires_grad_(False)
    tied = nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24), nn.Linear(24, 3))
    tied[1].weight = tied[0].weight
    network = {
        "frozen": KINDS["frozen"][0](),
        "tied": tied,
        "twice": nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(24, 3)),
        "tokens": nn.Sequential(nn.Linear(6, 4), nn.Flatten(), nn.Linear(16, 3)),
        "frozen bias": frozen_bias,
    }[name]
    x = X.view(-1, 4, 6) if name == "tokens" else X
    architecture = lambda: copy.deepcopy(network)  # noqa: E731
    model, _ = ensemble_of(architecture, SIDE_BY_SIDE)
    points = Points(x, Y, torch.arange(len(Y)), model.generators)
    found = mean_over_examples(model, points, lambda z, _: z.unsqueeze(0), torch.abs)
    one, total = architecture().eval(), None
    for row in x:
        z = one(row.unsqueeze(0))
        of_row = torch.autograd.grad(
            z, [p for p in one.parameters() if p.requires_grad], z.detach()
        )
        total = [
            g.abs() + (t if total else 0) for g, t in zip(of_row, total or of_row, strict=True)
        ]
    for mine, slow in zip(found, total, strict=True):
        assert torch.allclose(mine[0], slow / len(Y), atol=1e-5)


@pytest.mark.parametrize("method", ["cf_k", "eu_k"])
def test_a_last_layer_that_is_shared_with_the_first(method, measured):
    sets = {"two": [0, 1]}
    load = lambda: Data(X[:8], Y[:8], X[8:], Y[8:])  # noqa: E731
    mine = replace(task(Tied), load=load, forget_sets=sets, folder="TIED")
    record = measured(method, task=mine, forget_set="two", members=2, epochs=1)
    assert record.points.size == len(Y)
