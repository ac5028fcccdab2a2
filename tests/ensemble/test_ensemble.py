import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state, logits, new_model
from klom_bench.ensemble.losses import cross_entropy, kl
from klom_bench.ensemble.per_example import mean_over_examples
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.seeds import generator, member_seed
from klom_bench.ensemble.training import Recipe, train
from klom_bench.models.mlp import mlp
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId


def small_cnn():
    """Layers with parameters and without, with buffers, and without a rule of their own."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 10),
    )


def ensemble(architecture, members):
    states = [initial_state(architecture, member_seed("test", i)) for i in members]
    streams = [generator("order", i) for i in members]
    return Ensemble(architecture, states, members, streams)


@pytest.mark.parametrize("architecture", [mlp, small_cnn])
@pytest.mark.parametrize("rows", [1, 6, 7])
def test_computes_what_the_single_models_compute(architecture, rows):
    model = ensemble(architecture, range(3)).eval()
    x = torch.randn(3, rows, 64, generator=torch.Generator().manual_seed(0))
    for i, state in enumerate(model.states()):
        single = architecture()
        single.load_state_dict(state)
        torch.testing.assert_close(model(x)[i], single.eval()(x[i]))


class Thrice(nn.Linear):
    def forward(self, x):
        return 3 * super().forward(x)


class Skipping(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


class Renamed(nn.Linear):
    """With the forward of nn.Linear."""


@pytest.mark.parametrize("kind", [Thrice, Skipping, Renamed])
@pytest.mark.parametrize("inside", [True, False])
def test_classes_derived_from_others_compute_what_they_say(kind, inside):
    """Neither as what they are derived from, nor in gradients of single examples."""

    def architecture():
        own = Skipping(nn.Linear(64, 64)) if kind is Skipping else kind(64, 64)
        return nn.Sequential(own, nn.Linear(64, 10)) if inside else own

    states = [initial_state(architecture, i) for i in range(3)]
    model = Ensemble(architecture, states)
    x = torch.randn(3, 6, 64, generator=torch.Generator().manual_seed(0))
    points = Points(x[0], torch.arange(6), torch.arange(6), model.generators)
    found = mean_over_examples(model, points, lambda z, _: z.unsqueeze(0), torch.square)
    for i, state in enumerate(states):
        net = architecture()
        net.load_state_dict(state)
        torch.testing.assert_close(model(x)[i], net(x[i]))
        squares = [torch.zeros_like(p) for p in net.parameters()]
        for one in x[0]:
            z = net(one.unsqueeze(0))
            for total, g in zip(
                squares, torch.autograd.grad(z, net.parameters(), z.detach()), strict=True
            ):
                total += g**2 / 6
        for got, wanted in zip(found, squares, strict=True):
            torch.testing.assert_close(got[i], wanted, rtol=1e-4, atol=1e-5)


def weight_normed():
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(64, 8)), nn.Linear(8, 10))


def of_tokens():
    return nn.Sequential(nn.Unflatten(1, (16, 4)), nn.Linear(4, 3), nn.Flatten(), nn.Linear(48, 10))


@pytest.mark.parametrize("architecture", [weight_normed, of_tokens])
def test_linear_layers_that_compute_more_or_on_more(architecture):
    model = ensemble(architecture, range(3)).eval()
    x = torch.randn(3, 6, 64, generator=torch.Generator().manual_seed(0))
    for i, state in enumerate(model.states()):
        single = architecture()
        single.load_state_dict(state)
        torch.testing.assert_close(model(x)[i], single.eval()(x[i]))


def test_a_layer_that_stands_twice_counts_twice_in_gradients_of_examples():
    def architecture():
        act = nn.Tanh()
        return nn.Sequential(nn.Linear(64, 8), act, nn.Linear(8, 8), act, nn.Linear(8, 10))

    model = ensemble(architecture, [0])
    x = torch.randn(1, 64, generator=torch.Generator().manual_seed(0))
    points = Points(x, torch.zeros(1, dtype=torch.int64), torch.arange(1), model.generators)
    found = mean_over_examples(model, points, lambda z, _: z.unsqueeze(0), torch.square)
    net = architecture()
    net.load_state_dict(model.states()[0])
    z = net(x)
    for got, g in zip(found, torch.autograd.grad(z, net.parameters(), z.detach()), strict=True):
        torch.testing.assert_close(got[0], g**2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("architecture", [mlp])
def test_training_is_that_of_single_models(architecture):
    """Three SGD epochs of an ensemble against torch's own loop over single models."""
    recipe = Recipe(epochs=3, batch_size=50, lr=0.1)
    data = DIGITS.data
    model = ensemble(architecture, range(2))
    singles = []
    for i, state in enumerate(model.states()):
        single, g = architecture(), generator("order", i)
        single.load_state_dict(state)
        optimizer = torch.optim.SGD(single.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        for _ in range(recipe.epochs):
            order = torch.randperm(275, generator=g)
            for batch in order.split(50)[:5]:
                optimizer.zero_grad()
                F.cross_entropy(single(data.x_train[batch]), data.y_train[batch]).backward()
                optimizer.step()
        singles.append(single)
    points = Points(data.x_train, data.y_train, torch.arange(275), model.generators)
    assert len(list(train(model, points, recipe))) == 3
    assert points.seen == 3 * 250
    for single, state in zip(singles, model.states(), strict=True):
        for name, value in single.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-6)


def trained_margins(members, threads=1):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    data, model = DIGITS.data, ensemble(DIGITS.architecture, members)
    points = Points(data.x_train, data.y_train, torch.arange(1427), model.generators)
    for _ in train(model, points, Recipe(2, 64, 0.1)):
        pass
    with evaluating(model):
        z = data.outputs(model, len(members))
    torch.set_num_threads(before)
    return z


def test_members_do_not_depend_on_their_pack():
    """Bit for bit on one CPU: alone, in pairs, in another order of members, with two threads."""
    together = trained_margins([0, 1, 2, 3, 4, 5, 6])
    for pack in ([0], [6], [2, 3], [5, 1, 4]):
        assert torch.equal(trained_margins(pack), together[pack])
    assert torch.equal(trained_margins([0, 1, 2], threads=2), together[:3])


def test_ragged_batches_do_not_make_members_depend_on_their_pack():
    def run(members):
        data, model = DIGITS.data, ensemble(mlp, members)
        points = Points(data.x_train, data.y_train, torch.arange(97), model.generators)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for x, y in points.batches(32):  # the last one has a single row
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        return torch.stack([s["0.weight"] for s in model.states()])

    whole = run([0, 1, 2, 3])
    assert torch.equal(run([3]), whole[3:])
    assert torch.equal(run([1, 2]), whole[1:3])


def test_originals_and_oracles_share_no_seed():
    ensembles = [
        EnsembleId(DIGITS, role, seed, forget_set)
        for seed in (0, 1)
        for role, forget_set in [("original", None)]
        + [("oracle", DIGITS.forget_set(name)) for name in DIGITS.forget_sets]
        + [("subset", None)]
    ]
    seeds = [
        e.member_seed(i, purpose)
        for e in ensembles
        for i in range(100)
        for purpose in ("init", "order")
    ]
    assert len(set(seeds)) == len(seeds) == 2 * 13 * 100 * 2


def test_each_member_has_its_own_order_and_sees_every_point_once():
    streams = [generator("order", i) for i in range(3)]
    points = Points(torch.arange(20.0)[:, None], torch.arange(20), torch.arange(5, 18), streams)
    labels = torch.cat([y for _, y in points.batches(4)], 1)
    assert labels.sort(1).values.tolist() == [list(range(5, 18))] * 3
    assert len({tuple(row) for row in labels.tolist()}) == 3
    assert points.seen == 13
    assert [x.shape[1] for x, _ in points.batches(4, drop_last=True)] == [4, 4, 4]


def test_members_may_have_points_of_their_own():
    streams = [generator("order", i) for i in range(2)]
    own = torch.tensor([[1, 3, 5], [0, 2, 4]])
    points = Points(torch.zeros(6, 1), torch.arange(6), own, streams)
    ((_, y),) = points.batches(3)
    assert y.sort(1).values.tolist() == own.tolist()


def test_losses_are_means_over_a_batch_summed_over_members():
    z, t = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    y = torch.randint(4, (2, 5))
    expected = sum(F.cross_entropy(z[i], y[i]) for i in range(2))
    torch.testing.assert_close(cross_entropy(z, y), expected)
    p, q = (t / 3).softmax(-1), (z / 3).softmax(-1)
    expected = 9 * (p * (p / q).log()).sum(-1).mean(1).sum()
    torch.testing.assert_close(kl(t, z, 3.0), expected)


def test_a_clone_is_independent():
    model = ensemble(mlp, range(2))
    before, twin = model.fingerprints(), model.clone()
    with torch.no_grad():
        next(iter(twin.parameters())).add_(1)
    assert model.fingerprints() == before
    assert all(a != b for a, b in zip(twin.fingerprints(), before, strict=True))


def test_evaluating_is_in_eval_mode_and_restores_the_mode():
    model = ensemble(small_cnn, range(2)).train()
    before, x = model.fingerprints(), torch.randn(50, 64)
    with evaluating(model):
        whole, part = logits(model, x, 2), logits(model, x[:20], 2)
        assert not model.training
    torch.testing.assert_close(whole[:, :20], part)  # batch statistics would make them differ
    assert model.training
    assert model.fingerprints() == before


def test_generators_are_the_members_own():
    model = ensemble(mlp, [3, 8])
    drawn = torch.rand(2, generator=model.generator(1))
    assert torch.equal(drawn, torch.rand(2, generator=generator("order", 8)))


def test_noise_is_each_members_own():
    a, b = ensemble(mlp, [0, 1, 2]), ensemble(mlp, [1])
    weight = next(iter(a.parameters()))
    assert torch.equal(a.noise_like(weight)[1:2], b.noise_like(next(iter(b.parameters()))))


def test_building_a_model_leaves_torchs_random_state_alone():
    state = copy.deepcopy(torch.get_rng_state())
    first, again = (new_model(mlp, 7).state_dict()["0.weight"] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_state_of_another_architecture_is_named():
    with pytest.raises(ValueError, match=r"0\.weight is \(128, 32\) in the state dict"):
        Ensemble(mlp, [initial_state(lambda: mlp(inputs=32), 0)])
