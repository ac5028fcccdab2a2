"""What makes a step fast is what it would be without."""

import numpy as np
import pytest
import torch
from torch import nn

from klom_bench import Data, Recipe, Task
from klom_bench.ensemble.augmentation import Augmentation
from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.optimizers import SGD, ForeachSGD
from klom_bench.ensemble.stacked import Way
from klom_bench.ensemble.step import Step
from klom_bench.ensemble.training import train
from klom_bench.models.mlp import mlp
from klom_bench.models.resnet9 import resnet9
from klom_bench.tasks import DIGITS, DIGITS_CNN
from klom_bench.tasks.cifar10 import CIFAR10_TASK
from klom_bench.tasks.pack_size import MOST, pack_on

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def streams(count, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_sgd_in_few_operations_is_sgd(momentum, seed):
    draw = torch.Generator().manual_seed(seed)
    shapes = [(3, 4, 5), (3, 4), (3, 2, 2, 2, 2)]
    start = [torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes]
    plain, quick = ([nn.Parameter(t.clone()) for t in start] for _ in "ab")

    def groups(of):
        return [{"params": of[:2], "weight_decay": 0.1}, {"params": of[2:], "weight_decay": 0.0}]

    usual, step = SGD(groups(plain), lr=1.0, momentum=momentum), ForeachSGD(groups(quick), momentum)
    for lr in (0.3, 0.1, torch.tensor(0.2, dtype=torch.float64)):
        for a, b in zip(plain, quick, strict=True):
            a.grad = torch.randn(a.shape, generator=draw, dtype=torch.float64)
            b.grad = a.grad.clone()
        for group in usual.param_groups:
            group["lr"] = float(lr)
        usual.step()
        step(lr)
    for a, b in zip(plain, quick, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    step.rest()
    for p in quick:
        p.grad = torch.zeros_like(p)
    before = [p.detach().clone() for p in quick]
    step(0.1)
    torch.testing.assert_close(quick[2].detach(), before[2])  # nothing moves without momentum


def test_noise_in_one_buffer_is_that_of_one_tensor_after_the_other():
    states = [initial_state(lambda: mlp(4, 3, 2), i) for i in range(3)]
    one, other = (Ensemble(lambda: mlp(4, 3, 2), states, generators=streams(3)) for _ in "ab")
    stacks = [*one.parameters()]
    together = one.noises_like(stacks)
    for noise, stack in zip(together, stacks, strict=True):
        alone = other.noise_like(stack)
        assert noise.shape == stack.shape
        assert torch.equal(noise, alone)
        by_hand = [float(t.flatten()[0]) for t in alone]
        assert len({*by_hand}) == 3


def test_draws_of_an_epoch_are_those_of_batch_after_batch():
    changes = Augmentation(flip=True, translate=2, cutout=3)
    ahead = [*changes.of_batches(streams(2), 3, 5, torch.zeros(2, 1, 3, 8, 8))]
    mine = streams(2)
    assert all(torch.equal(drawn, changes.drawn(mine, 5, 8, 8)) for drawn in ahead)
    assert len(ahead) == 3


class Dropped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(3 * 6 * 6, 2))

    def forward(self, x):
        return self.net(x)


def test_draws_of_passes_come_between():
    """As ever: an image is changed, then a pass draws, then the next image is changed."""
    x, y = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    recipe = Recipe(epochs=1, batch_size=4, lr=0.1, flip=True, translate=1)
    task = Task(
        name="drops", architecture=Dropped, load=lambda: Data(x, y, x, y), train=recipe,
        forget_sets={"a": lambda: [0]},
    )  # fmt: skip
    model = task.ensemble([initial_state(Dropped, 0)], [0], streams(1))
    for _ in train(model, task.data_on(CPU).points(np.arange(8), model.generators), recipe):
        pass
    (mine,) = streams(1)
    torch.randperm(8, generator=mine)
    for _ in range(2):
        Augmentation(flip=True, translate=1).drawn([mine], 4, 6, 6)
        torch.randint(2**62, (), generator=mine)
    assert torch.equal(mine.get_state(), model.generator(0).get_state())


def test_models_one_after_the_other_draw_nothing_that_they_do_not_need():
    model = Ensemble(lambda: mlp(4, 3, 2), [initial_state(lambda: mlp(4, 3, 2), 0)] * 2)
    model._stacked = False
    before = [g.get_state() for g in model.generators]
    model.train()(torch.randn(2, 6, 4))
    assert all(torch.equal(a, g.get_state()) for a, g in zip(before, model.generators, strict=True))


def test_weights_lie_as_kernels_like_them_and_are_saved_as_ever():
    states = [initial_state(lambda: resnet9(width=4), i) for i in range(2)]
    model = Ensemble(lambda: resnet9(width=4), states, way=Way(stacked=False))
    kernels = [p for p in model.parameters() if p.ndim == 5 and p.shape[-1] > 1 and p.shape[2] > 1]
    assert kernels
    assert all(p[0].is_contiguous(memory_format=torch.channels_last) for p in kernels)
    for before, after in zip(states, model.states(), strict=True):
        for name, value in after.items():
            assert value.is_contiguous()
            assert torch.equal(value, before[name])


def test_small_models_are_computed_together_on_a_gpu():
    assert pack_on(DIGITS, CPU) == DIGITS.pack
    assert pack_on(DIGITS, GPU) == MOST
    assert pack_on(CIFAR10_TASK, GPU) == CIFAR10_TASK.pack
    assert pack_on(DIGITS_CNN, GPU) % DIGITS_CNN.pack == 0


def test_a_step_says_how_many_batches_there_are():
    states = [initial_state(DIGITS.architecture, 0)]
    model = DIGITS.ensemble(states, [0], streams(1))
    for points, batches in ((64, 1), (63, 1), (130, 2)):
        some = DIGITS.data_on(CPU).points(np.arange(points), model.generators)
        step = Step(model, some, DIGITS.recipe)
        assert step.batches == batches == len([*step.epoch()])
