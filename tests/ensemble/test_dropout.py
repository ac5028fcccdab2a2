"""Dropout whose masks belong to the members: whatever the pack, the order and the way computed."""

import copy
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.checkpoint import checkpoint

from klom_bench import per_model
from klom_bench.ensemble.dropout import KINDS, seeded_before_each_pass, uniform
from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.stacked import one_by_one
from klom_bench.errors import KlomError, KlomWarning
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")


class Shared(nn.Module):
    """One dropout layer used twice, and one of channels: no Sequential, so vmap computes it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)
        self.drop, self.channels = nn.Dropout(0.4), nn.Dropout1d(0.2)

    def forward(self, x):
        h = self.drop(self.a(x).relu())
        h = self.drop(self.b(h).relu())
        return self.c(self.channels(h.view(len(h), 4, 8)).flatten(1))


def layered():
    return nn.Sequential(
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Dropout(0.4),
        nn.Sequential(nn.Linear(32, 32), nn.AlphaDropout(0.2)),
        nn.Linear(32, 10),
    )


ARCHITECTURES = [Shared, layered]
STATES = {a: [initial_state(a, i) for i in range(6)] for a in ARCHITECTURES}


def ensemble(architecture, members):
    streams = [torch.Generator().manual_seed(100 + i) for i in members]
    chosen = [STATES[architecture][i] for i in members]
    return Ensemble(architecture, chosen, members, streams).train()


X = torch.randn(6, 8, 64, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masks_do_not_depend_on_the_pack(architecture):
    """Bit for bit, over several passes and whatever torch's own generator does."""
    whole, packs = ensemble(architecture, range(6)), [[5, 2], [0], [1, 3, 4]]
    together = [whole(X) for _ in range(3)]
    for pack in packs:
        torch.manual_seed(pack[0])
        alone = ensemble(architecture, pack)
        for z in together:
            torch.rand(7)
            assert torch.equal(alone(X[pack]), z[pack])
    assert not torch.allclose(together[0], together[1], atol=0.1)
    assert not torch.allclose(*(ensemble(architecture, [i])(X[:1]) for i in (0, 1)), atol=0.1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masks_are_the_same_however_members_are_computed(architecture):
    stacked, single = ensemble(architecture, range(6)), ensemble(architecture, range(6))
    single._apply_network = one_by_one
    models = []
    for i in range(6):
        model = architecture()
        model.load_state_dict(STATES[architecture][i])
        seeded_before_each_pass(model, torch.Generator().manual_seed(100 + i))
        models.append(model.train())
    for _ in range(3):
        z = stacked(X)
        assert torch.allclose(single(X), z, atol=1e-5)
        assert torch.allclose(
            torch.stack([m(x) for m, x in zip(models, X, strict=True)]), z, atol=1e-5
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_training_nothing_is_dropped_or_drawn(architecture):
    model = ensemble(architecture, [0, 1])
    before = [g.get_state() for g in model.generators]
    with evaluating(model):
        assert torch.equal(model(X[:2]), model(X[:2]))
    assert all(torch.equal(g.get_state(), b) for g, b in zip(model.generators, before, strict=True))
    assert [*model.states()[0]] == [*STATES[architecture][0]]
    assert model.fingerprints() == Ensemble(architecture, STATES[architecture][:2]).fingerprints()


class Masks(nn.Module):
    """Says which units were dropped: by one layer twice, and by another."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.one, self.other = nn.Dropout(0.5), nn.Dropout(0.5)

    def forward(self, x):
        ones = torch.ones_like(x) * self.weight
        return torch.stack([self.one(ones), self.one(ones), self.other(ones)], -2).bool().float()


def test_each_mask_of_a_pass_is_its_own():
    model = Ensemble(Masks, [initial_state(Masks, i) for i in range(3)]).train()
    first, second = (model(torch.zeros(3, 5, 2000)).double() for _ in range(2))
    masks = torch.cat([z[m, b] for z in (first, second) for m in range(3) for b in (0, 1)])
    correlation = np.corrcoef(masks.numpy())
    assert len(correlation) == 2 * 3 * 2 * 3
    assert np.abs(correlation - np.eye(len(correlation))).max() < 0.12


def test_a_clone_draws_on():
    model = ensemble(Shared, [0, 1])
    twin = model.clone()
    assert not torch.equal(model(X[:2]), twin(X[:2]))
    assert isinstance(copy.deepcopy(model.network).drop, nn.Dropout)
    assert repr(model.network.drop) == "Dropout(p=0.4, inplace=False)"


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_does_what_torchs_does(kind, p):
    """Which entries go together, and by what the others are scaled: read off torch's own layer."""
    shape = (60, 40, 5, 5, 3) if kind is nn.Dropout3d else (60, 40, 5)
    x = torch.full(shape, 2.0)
    theirs = kind(p).train()(x)
    own = nn.Sequential(kind(p))
    seeded_before_each_pass(own, torch.Generator().manual_seed(0))
    ours = own.train()(x)
    assert ours.shape == theirs.shape
    values, expected = ours.unique(), theirs.unique()
    assert torch.allclose(values, expected, atol=1e-5)
    n = x.numel() if kind in (nn.Dropout, nn.AlphaDropout) else shape[0] * shape[1]
    if len(values) == 2:
        dropped = int((ours == values[0]).sum()) * n // x.numel()
        assert stats.binomtest(dropped, n, p).pvalue > 1e-4
    if n < x.numel():
        per_channel = ours.flatten(2)
        assert torch.equal(per_channel.amin(-1), per_channel.amax(-1))


def test_the_numbers_are_uniform_and_independent():
    draws = torch.stack([uniform(torch.tensor(s), (20_000,)) for s in (0, 1, 2**61)]).double()
    for row in draws:
        assert stats.kstest(row, "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.03
    assert abs(np.corrcoef(draws)[0, 1]) < 0.03
    assert torch.equal(uniform(torch.tensor(1), (50,), 7)[:43], uniform(torch.tensor(1), (50,))[7:])


def test_splitmix_is_the_published_one():
    """The first numbers of SplitMix64 seeded with 1234567, known from its reference code."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    golden = 0x9E3779B97F4A7C15
    seed = (1234567 + golden) % 2**64  # the reference adds before it mixes
    seed -= 2**64 * (seed >= 2**63)
    found = uniform(torch.tensor(seed), (3,)) * 2**24
    assert found.long().tolist() == [k >> 40 for k in known]


# As a task


@pytest.fixture
def task():
    def made(architecture=Shared):
        recipe = replace(DIGITS.recipe, epochs=2)
        return replace(DIGITS, architecture=architecture, recipe=recipe, pack=3)

    return made


def test_training_repeats_bit_for_bit(task, tmp_path):
    """Other packs, another order, two threads; from two stores."""
    margins = []
    for pack in (3, 2, 6):
        mine = EnsembleId(replace(task(), pack=pack), "original", 0)
        store = Store(tmp_path / str(pack))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store.complete([(mine, 6)], CPU)
        margins.append(store.held(mine).margins(6, CPU))
    assert np.array_equal(margins[0], margins[1])
    assert np.array_equal(margins[0], margins[2])


def ga(model, forget, retain, *, lr=0.05):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for x, y in forget.batches(16):
        optimizer.zero_grad()
        (-cross_entropy(model(x), y)).backward()
        optimizer.step()
    yield


@per_model
def ga_of_one(model, forget, retain, *, lr=0.05):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for x, y in forget.batches(16):
        optimizer.zero_grad()
        (-nn.functional.cross_entropy(model(x), y)).backward()
        optimizer.step()


@pytest.mark.parametrize("method", [ga, ga_of_one])
def test_unlearning_repeats_bit_for_bit(task, measured, method):
    own = replace(task(), name="dropout", folder="DROPOUT")
    first, second = (measured(method, task=own, members=6).points for _ in range(2))
    assert np.array_equal(first, second)
    other = measured(method, task=replace(own, pack=2), members=6).points
    assert np.array_equal(first, other)


class Random(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.layers, self.noise = Shared(), Noise(draw)

    def forward(self, x):
        return self.noise(self.layers(x))


class Noise(nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, z):
        return z + self.draw(z) if self.training else z


TORCHS = {
    "rand_like": lambda: Random(torch.rand_like),
    "F.dropout": lambda: Random(nn.functional.dropout),
    "RReLU": lambda: nn.Sequential(nn.Linear(64, 10), nn.RReLU()),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (4, 16)),
        nn.TransformerEncoderLayer(16, 2, 16, batch_first=True),
        nn.Flatten(),
        nn.Linear(64, 10),
    ),
}


@pytest.mark.parametrize("name", TORCHS)
def test_what_draws_from_torchs_generator_is_the_members_own(task, tmp_path, name):
    """Whatever is computed beside it, and wherever the global generator stands."""
    found = []
    for pack in (3, 2):
        mine = EnsembleId(replace(task(TORCHS[name]), pack=pack), "original", 0)
        store = Store(tmp_path / str(pack))
        with warnings.catch_warnings():
            warnings.simplefilter("error", KlomWarning)
            store.complete([(mine, 3)], CPU)
        found.append(store.held(mine).margins(3, CPU))
        torch.rand(7)
    assert np.array_equal(*found)
    assert not np.array_equal(found[0][0], found[0][1])


def test_what_draws_from_elsewhere_is_named_before_training(task, tmp_path):
    architecture = lambda: Random(lambda z: torch.tensor(np.random.rand()))  # noqa: E731
    store, mine = Store(tmp_path), EnsembleId(task(architecture), "original", 0)
    named = "NumPy, random or a generator"
    with pytest.warns(KlomWarning, match=rf"of task digits will not repeat: .*{named}") as warned:
        store.complete([(mine, 2)], CPU)
    assert len([w for w in warned if w.category is KlomWarning]) == 1


def test_dropout_under_activation_checkpointing_is_refused(task, tmp_path):
    """Computed again in the backward pass, it would draw another mask, and nobody would know."""

    class Checkpointed(Shared):
        def forward(self, x):
            return checkpoint(super().forward, x, use_reentrant=False)

    one = lambda: nn.Sequential(nn.Linear(64, 10), nn.Dropout(0.5))  # noqa: E731

    class InLayers(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = one()

        def forward(self, x):
            return checkpoint(self.block, x, use_reentrant=False)

    model = InLayers()
    seeded_before_each_pass(model, torch.Generator())
    with pytest.raises(KlomError, match="computed again in the backward pass"):
        model.train()(torch.randn(4, 64)).sum().backward()
    for architecture in (Checkpointed, InLayers):
        with pytest.raises(KlomError):
            Store(tmp_path).complete([(EnsembleId(task(architecture), "original", 0), 2)], CPU)
