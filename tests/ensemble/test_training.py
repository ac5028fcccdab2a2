"""The published recipes against torch's own building blocks."""

import numpy as np
import pytest
import torch
from torch import nn

from klom_bench.ensemble.augmentation import Augmentation
from klom_bench.ensemble.ensemble import Ensemble, initial_state, new_model
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.step import decay_groups
from klom_bench.ensemble.training import Recipe, train
from klom_bench.models.resnet9 import resnet9
from klom_bench.tasks import BUILT_IN


def streams(count):
    return [torch.Generator().manual_seed(i) for i in range(count)]


@pytest.mark.parametrize("name", ["cifar10", "living17"])
def test_the_schedule_is_a_triangle_step_by_step(name):
    recipe, steps_an_epoch = BUILT_IN[name].recipe, 43
    steps = recipe.epochs * steps_an_epoch
    peak = recipe.peak_epoch * steps_an_epoch
    found = [recipe.lr_at(step, steps) for step in range(steps)]
    rise, fall = np.linspace(0, recipe.lr, peak + 1), np.linspace(recipe.lr, 0, steps - peak + 1)
    np.testing.assert_allclose(found, [*rise[:-1], *fall[:-1]], atol=1e-12)


def test_recipes_are_the_published_ones():
    cifar, plus, living = (BUILT_IN[n].recipe for n in ("cifar10", "cifar10_augmented", "living17"))
    assert (cifar.epochs, cifar.batch_size, cifar.lr, cifar.momentum) == (24, 256, 0.4, 0.9)
    assert (cifar.weight_decay, cifar.peak_epoch, cifar.label_smoothing) == (5e-4, 5, 0)
    assert (cifar.flip, cifar.translate, cifar.cutout) == (False, 0, 0)
    assert (plus.flip, plus.translate, plus.cutout) == (True, 2, 8)
    assert (living.epochs, living.batch_size, living.lr, living.peak_epoch) == (25, 1024, 0.6, 12)
    assert (living.label_smoothing, living.undecayed_norm, living.weight_decay) == (0.1, True, 5e-4)


def small():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )


def test_training_is_that_of_a_plain_loop():
    """All of a recipe but augmentation, against torch's SGD and LambdaLR on a single model."""
    recipe = Recipe(
        epochs=4,
        batch_size=8,
        lr=0.2,
        peak_epoch=1,
        label_smoothing=0.1,
        undecayed_norm=True,
        mixed_precision=True,
        weight_decay=0.01,
    )
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(35, 3, 8, 8, generator=g), torch.randint(3, (35,), generator=g)
    states = [initial_state(small, seed) for seed in (1, 2)]
    ensemble = Ensemble(small, states, generators=streams(2))
    for _ in train(ensemble, Points(x, y, torch.arange(35), ensemble.generators), recipe):
        pass
    for i, (state, order) in enumerate(zip(states, streams(2), strict=True)):
        net = new_model(small).train()
        net.load_state_dict(state)
        norm, others = list(net[1].parameters()), [*net[0].parameters(), *net[4].parameters()]
        groups = [{"params": others, "weight_decay": 0.01}, {"params": norm, "weight_decay": 0.0}]
        sgd = torch.optim.SGD(groups, lr=0.2, momentum=0.9)
        triangle = torch.optim.lr_scheduler.LambdaLR(
            sgd, lambda step: np.interp(step / 4, [0, 1, 4], [0, 1, 0])
        )
        loss = nn.CrossEntropyLoss(label_smoothing=0.1)
        for _ in range(4):
            for batch in torch.randperm(35, generator=order)[:32].split(8):
                sgd.zero_grad()
                loss(net(x[batch]), y[batch]).backward()
                sgd.step()
                triangle.step()
        for name, value in net.state_dict().items():
            torch.testing.assert_close(ensemble.states()[i][name], value, rtol=1e-3, atol=1e-4)


def test_norm_layers_do_not_decay_where_the_recipe_says_so():
    model = Ensemble(resnet9, [initial_state(resnet9, 0)])
    recipe = BUILT_IN["living17"].recipe
    decayed, norms = decay_groups(model, recipe)
    assert len(norms["params"]) == 16
    assert norms["weight_decay"] == 0
    assert decayed["weight_decay"] == 5e-4
    assert len(decayed["params"]) == 9
    (only,) = decay_groups(model, BUILT_IN["cifar10"].recipe)
    assert len(only["params"]) == 25


def augmented(x, generators, **how):
    changes = Augmentation(**how)
    return changes.changed(x, changes.drawn(generators, x.shape[1], *x.shape[3:]))


IMAGES = torch.arange(1.0, 2 * 200 * 3 * 12 * 12 + 1).view(2, 200, 3, 12, 12)


def test_flipping_mirrors_half_of_the_images():
    found = augmented(IMAGES, streams(2), flip=True, translate=0, cutout=0)
    same, mirrored = (
        (found == IMAGES).flatten(2).all(2),
        (found == IMAGES.flip(-1)).flatten(2).all(2),
    )
    assert bool((same ^ mirrored).all())
    assert 70 < int(mirrored[0].sum()) < 130
    assert not torch.equal(mirrored[0], mirrored[1])  # each member's from its own stream


def test_translating_moves_by_up_to_two_pixels_and_fills_with_the_mean():
    found = augmented(IMAGES, streams(2), flip=False, translate=2, cutout=0)
    padded = nn.functional.pad(IMAGES[0], [2] * 4)
    shifts = set()
    for image, before in zip(found[0], padded, strict=True):
        (shift,) = [
            (r, c)
            for r in range(5)
            for c in range(5)
            if torch.equal(image, before[:, r : r + 12, c : c + 12])
        ]
        shifts.add(shift)
    assert len(shifts) == 25


def test_cutout_blanks_one_whole_square():
    found = augmented(IMAGES, streams(2), flip=False, translate=0, cutout=4)
    corners = set()
    for image, before in zip(found[1], IMAGES[1], strict=True):
        blank = image[0] == 0
        rows, columns = blank.nonzero(as_tuple=True)
        assert len(rows) == 16
        assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 3
        assert torch.equal(image[:, ~blank], before[:, ~blank])
        assert not image[:, blank].any()
        corners.add((int(rows.min()), int(columns.min())))
    assert {c[0] for c in corners} == set(range(9))


def test_what_a_member_sees_does_not_depend_on_the_others():
    every = {"flip": True, "translate": 2, "cutout": 4}
    together = augmented(IMAGES, streams(2), **every)
    alone = augmented(IMAGES[1:], streams(2)[1:], **every)
    assert torch.equal(together[1], alone[0])


def test_training_augments_and_unlearning_does_not():
    def flat():
        return nn.Sequential(nn.Flatten(), nn.Linear(108, 2))

    x, y, seen = torch.rand(8, 3, 6, 6) + 1, torch.zeros(8, dtype=torch.int64), []
    model = Ensemble(flat, [initial_state(flat, 0)])
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    points = Points(x, y, torch.arange(8), model.generators)
    for _ in train(model, points, Recipe(epochs=1, batch_size=8, lr=0.1, cutout=3)):
        pass
    plain, _ = next(points.batches(8))
    assert int((seen[0] == 0).sum()) == 8 * 3 * 9
    assert bool((plain > 0).all())
