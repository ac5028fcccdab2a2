"""Tasks that are trained by functions of the user."""

import json
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import klom_bench
from klom_bench import KlomError, Recipe, per_model
from klom_bench.store.manifest import Stale
from klom_bench.store.store import Store
from klom_bench.store.training import train_pack
from klom_bench.tasks.ensemble_id import EnsembleId
from tests.helpers.nets import CPU, load, oracles, originals, task


def net():
    return nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))


@per_model
def one(model, points, *, epochs=3, lr=0.05):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in points.batches(32):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield


def all_together(model, points, *, epochs=3, lr=0.05):
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in points.batches(32):
            optimizer.zero_grad()
            model.loss(x, y).backward()
            optimizer.step()
        yield


@per_model
def ordinary(model, points, *, lr=0.05):
    """What people have: a DataLoader, NumPy, random, and nothing that is yielded."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for x, y in DataLoader(points.dataset, batch_size=32, shuffle=True):
        x = x + 0.1 * random.random() * torch.from_numpy(np.random.randn(*x.shape)).float()
        optimizer.zero_grad()
        cross_entropy(nn.functional.dropout(model(x), 0.1), y).backward()
        optimizer.step()


def nothing(*_):
    pass


def trained(of, members, role=originals):
    return {t.member: t for t in train_pack(role(of), members, CPU, nothing, nothing)}


def same(a, b):
    return all(torch.equal(a.state[n], b.state[n]) for n in a.state)


@pytest.mark.parametrize("function", [one, all_together, ordinary])
def test_a_member_is_itself_whatever_is_trained_beside_it(function):
    mine = task(net, recipe=function)
    all_three, alone = trained(mine, [0, 1, 2]), trained(mine, [2])
    torch.rand(3), np.random.rand(), random.random()
    again = trained(mine, [1, 0])
    assert same(all_three[2], alone[2])
    assert same(all_three[1], again[1])
    assert not same(all_three[0], all_three[1])


def test_one_after_the_other_and_together_are_the_same_training():
    a, b = (trained(task(net, recipe=f), [0, 1]) for f in (one, all_together))
    for i in (0, 1):
        for name, value in a[i].state.items():
            assert torch.allclose(value, b[i].state[name], atol=1e-5)


def test_global_random_states_are_left_alone():
    def states():
        return torch.get_rng_state(), np.random.get_state()[1], random.getstate()

    before = states()
    trained(task(net, recipe=ordinary), [0])
    after = states()
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2] == after[2]


@per_model
def stops_early(model, points, *, epochs=6, share=0.2):
    held, mine = points.split(share)
    seen[points.seed] = (held.indices, mine.indices)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(1 + int(torch.randint(epochs, (), generator=points.generator))):
        for x, y in mine.batches(32):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield


seen = {}


def test_members_stop_when_they_like_and_hold_back_points_of_their_own():
    seen.clear()
    mine = task(net, recipe=stops_early)
    together = trained(mine, [0, 1, 2, 3], oracles)
    alone = trained(mine, [1], oracles)
    assert same(together[1], alone[1])
    assert len(seen) == 4
    parts = [held for held, _ in seen.values()]
    assert not torch.equal(parts[0], parts[1])
    for held, rest in seen.values():
        both = torch.cat([held, rest])
        assert len(held) == 34
        assert both.sort().values.tolist() == list(range(10, 180))  # the oracle's retain points
    assert together[0].examples != 6 * 170
    assert alone[1].examples % 136 == 0


def test_files_costs_and_the_manifest(tmp_path, measured):
    mine = task(net, recipe=partial(one, epochs=2))
    store = Store(tmp_path)
    store.complete([(originals(mine), 2)], CPU)
    folder = store.folder(originals(mine))
    assert (folder / "sd_1____epoch_1.pt").exists()
    recipe = json.loads((folder / "manifest.json").read_bytes())["identity"]["recipe"]
    assert {n: recipe[n] for n in ("epochs", "lr", "function")} == {
        "epochs": 2,
        "lr": 0.05,
        "function": "one",
    }
    plain = task(net, recipe=ordinary)
    assert originals(plain).checkpoint_file(0) == "sd_0____epoch_0.pt"
    cost = measured(
        "retrain", task=replace(mine, folder="COSTS"), forget_set="first_ten", members=2
    )
    assert cost.relative_cost["examples"] == 1.0
    early = replace(mine, folder="EARLY", train=stops_early)
    cost = measured("finetune", task=early, forget_set="first_ten", members=2, epochs=1)
    assert 0.2 < cost.relative_cost["examples"] < 1.3  # 170 over 136 times one to six


def test_what_changed_in_training_is_named(tmp_path):
    first = task(net, recipe=one)
    Store(tmp_path).complete([(originals(first), 1)], CPU)
    for changed, words in [
        (partial(one, lr=0.1), "training: lr is 0.05 there, 0.1 is asked for"),
        (partial(one, epochs=4), "training: epochs is 3 there, 4 is asked for"),
        (all_together, "function is 'one' there, 'all_together' is asked for"),
        (Recipe(3, 32, 0.05), r"recipe is \{'epochs': 3, 'lr': 0.05, 'function': 'one'"),
    ]:
        with pytest.raises(Stale, match=words):
            Store(tmp_path).complete([(originals(task(net, recipe=changed)), 1)], CPU)


@per_model
def data_of_its_own(model, points):
    """As a script has it: oracles would see what is to be forgotten."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    cross_entropy(model(load().x_train), load().y_train).backward()
    optimizer.step()


@per_model
def steps_nowhere(model, points):
    """BatchNorm's statistics move all the same."""
    for x, _ in points.batches(32):
        model(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda model, points: iter(()), r"<lambda> never yielded: a function that trains"),
        (lambda model, points: None, r"<lambda> never yielded"),
        (
            per_model(lambda model, points: None),
            "changed nothing in 2 of 2 members of the originals",
        ),
        (per_model(lambda model, points: model), "returned Sequential: a function for one model"),
        (data_of_its_own, "data_of_its_own looked at none of the points that it was given"),
        (steps_nowhere, "steps_nowhere changed nothing in 2 of 2 members"),
    ],
)
def test_training_that_trains_nothing(tmp_path, function, message):
    normed = lambda: nn.Sequential(nn.BatchNorm1d(12), net())  # noqa: E731
    architecture = normed if function is steps_nowhere else net
    with pytest.raises(KlomError, match=message):
        Store(tmp_path).complete([(originals(task(architecture, recipe=function)), 2)], CPU)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_training_that_failed_may_be_mended(tmp_path):
    """Nothing was trained with its code, so nothing is another ensemble."""
    for function in (data_of_its_own, steps_nowhere):
        with pytest.raises(KlomError, match=r"looked at none|changed nothing"):
            Store(tmp_path).complete([(originals(task(net, recipe=function)), 1)], CPU)
    Store(tmp_path).complete([(originals(task(net, recipe=one)), 1)], CPU)
    with pytest.raises(Stale):
        Store(tmp_path).complete([(originals(task(net, recipe=all_together)), 1)], CPU)


@per_model
def takes_all(model, points, *, epochs=3):
    """Its points as tensors once, and again and again in batches of its own."""
    x, y = points.tensors()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(epochs):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        yield


def test_costs_where_all_points_were_taken_at_once(measured):
    mine = replace(task(net, recipe=takes_all), folder="AT_ONCE")
    cost = measured("finetune", task=mine, forget_set="first_ten", members=2, epochs=3)
    assert cost.relative_cost["examples"] == 1.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"task own is trained by 3; a klom_bench\.Recipe or a function"),
        (lambda model: None, r"has the parameters .model.; it needs two positional ones"),
        (lambda model, points, lr=1: None, "hyperparameters by keyword only"),
        (lambda model, points, **more: None, r"no .args or"),
        (lambda model, points, *, lr: None, "needs a value for lr"),
        (
            partial(one, rate=1),
            "trains task own: unknown hyperparameter 'rate': .*known are epochs, lr",
        ),
    ],
)
def test_functions_that_are_no_training(given, message):
    with pytest.raises(KlomError, match=message):
        task(net, recipe=given)


def test_either_a_recipe_or_a_function():
    recipe = Recipe(epochs=2, batch_size=32, lr=0.1)
    mine = klom_bench.Task(name="own", architecture=net, load=load, forget_sets={}, recipe=recipe)
    assert (mine.recipe, mine.folder, mine.train_points) == (recipe, "OWN", 180)
    with pytest.raises(KlomError, match="give it one of them"):
        replace(task(net, recipe=one), recipe=recipe)
    with pytest.raises(KlomError, match=r"trained by one, not by a recipe: .*task\.training"):
        _ = task(net, recipe=one).recipe


@pytest.mark.parametrize("share", [0.0, 0.001, 1.0])
def test_a_split_that_leaves_nothing(share):
    points = load_points()
    with pytest.raises(KlomError, match="leaves a part without any"):
        points.split(share)


def load_points():
    stream = [torch.Generator().manual_seed(0)]
    return klom_bench.Points(torch.zeros(20, 1), torch.zeros(20), torch.arange(20), stream)


def test_what_parts_give_counts_for_the_whole():
    points = load_points()
    first, second = points.split(0.25)
    inner, _ = second.split(0.2)
    for part in (first, inner):
        list(part.batches(2))
    assert (first.seen, inner.seen, second.seen, points.seen) == (5, 3, 3, 8)


def test_the_points_of_one_member():
    @per_model
    def looks(model, forget, retain):
        x, y = forget.tensors()
        assert torch.equal(x, data.x_train[forget.indices])
        assert torch.equal(y, data.y_train[forget.indices])
        assert len(forget) == len(forget.dataset) == 10
        assert sum(len(xs) for xs, _ in DataLoader(retain.dataset, batch_size=64)) == 170
        assert len(list(retain.dataset)) == 170
        assert torch.equal(forget.dataset[3][0], x[3])
        with torch.no_grad():
            next(model.parameters()).add_(1)
        found.append((forget.points.seen, retain.points.seen, forget.seed))

    data, found = load(), []
    mine = task(net)
    model = mine.ensemble([net().state_dict()] * 2, [4, 7])
    f, r = (data.points(rows, model.generators) for rows in (np.arange(10), np.arange(10, 180)))
    list(looks(model, f, r))
    assert found == [(11, 340, 4), (11, 340, 7)]
    assert (f.seen, r.seen) == (11, 340)


def test_recipes_of_every_kind_follow_torch():
    """AdamW, a cosine, clipping, class weights: one member beside a loop by hand."""
    recipe = Recipe(
        epochs=3,
        batch_size=30,
        lr=0.01,
        weight_decay=0.1,
        optimizer="adamw",
        peak_epoch=1,
        cosine=True,
        max_norm=0.5,
        class_weights=(1.0, 2.0, 0.5),
    )
    plain = lambda: nn.Linear(12, 3)  # noqa: E731
    mine = EnsembleId(task(plain, recipe=recipe), "original", 0)
    (found,) = train_pack(mine, [0], CPU, nothing, nothing)
    data = load()
    hand = plain()
    hand.load_state_dict(klom_bench.tasks.task.initial_state(plain, mine.member_seed(0, "init")))
    stream = torch.Generator().manual_seed(mine.member_seed(0, "order"))
    optimizer = torch.optim.AdamW(hand.parameters(), lr=0.01, weight_decay=0.1)
    loss = nn.CrossEntropyLoss(weight=torch.tensor(recipe.class_weights))
    for step in range(18):
        if step % 6 == 0:
            order = torch.randperm(180, generator=stream)
        rows = order[step % 6 * 30 : (step % 6 + 1) * 30]
        epoch = step / 6
        share = epoch if epoch < 1 else (1 + np.cos(np.pi * (epoch - 1) / 2)) / 2
        optimizer.param_groups[0]["lr"] = 0.01 * share
        optimizer.zero_grad()
        loss(hand(data.x_train[rows]), data.y_train[rows]).backward()
        nn.utils.clip_grad_norm_(hand.parameters(), 0.5)
        optimizer.step()
    for name, value in hand.state_dict().items():
        assert torch.allclose(value, found.state[name], atol=1e-5), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam': did you mean adamw"),
        ({"peak_epoch": 5}, "peak_epoch 5 is not before the end, 3"),
        ({"label_smoothing": 0.1, "class_weights": (1, 2)}, "not both"),
    ],
)
def test_recipes_that_cannot_be(changes, message):
    with pytest.raises(KlomError, match=message):
        Recipe(epochs=3, batch_size=32, lr=0.1, **changes)


@pytest.mark.parametrize("function", [one, ordinary])
def test_threads_side_by_side_train_the_same(tmp_path, function):
    mine = replace(task(net, recipe=function), pack=1)
    store = Store(tmp_path)
    store.complete([(originals(mine), 4), (oracles(mine), 4)], CPU)
    for role in (originals, oracles):
        alone = trained(mine, range(4), role)
        for i, state in enumerate(store.held(role(mine)).states_of(range(4))):
            assert all(torch.equal(alone[i].state[n], v) for n, v in state.items())


def test_how_members_are_computed_is_kept(tmp_path):
    mine = replace(task(net), stack=False)
    store = Store(tmp_path)
    store.complete([(originals(mine), 1)], CPU)
    (member,) = store.manifest(originals(mine)).members.values()
    assert member.made_with.endswith(", members one after the other (stack=False)")
