"""All that runs on a device, on a pretended GPU: the CPU's scores, no waits, no faults of placing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from benchmarks.gpu import Sizes, table
from helpers.pretended_gpu import CUDA, pretended_gpu
from torch import nn

from klom_bench import Data, Recipe, run
from klom_bench.cell import loading
from klom_bench.conformance.checks import complaints
from klom_bench.conformance.subject import Subject
from klom_bench.ensemble import graph
from klom_bench.ensemble.device import device_named
from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.ensemble.training import train
from klom_bench.errors import KlomWarning
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.metrics.klom import klom
from klom_bench.metrics.margins import margins
from klom_bench.models.resnet9 import resnet9
from klom_bench.store.store import Store
from klom_bench.store.training import made_with, new_members
from klom_bench.tasks import DIGITS, DIGITS_CNN, Task
from klom_bench.tasks.cifar10 import MEAN, STD
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.images import normalised

pytestmark = pytest.mark.gpu
QUICK = {"pack": 2}
SMALL = {
    "digits": replace(DIGITS, train=replace(DIGITS.train, epochs=1), **QUICK),
    "digits_cnn": replace(
        DIGITS_CNN, train=replace(DIGITS_CNN.train, epochs=1, peak_epoch=0), **QUICK
    ),
}
FEW = {"subsets": 4, "attack_steps": 5, "noise_steps": 5}
"""Models on random halves, and steps on points, where more would only take longer."""


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def nothing_kept():
    """What one device has read is not what the other computes with."""
    forget()
    yield
    forget()


def forget():
    for task in SMALL.values():
        task.forget_data()
    loading.originals_of.cache_clear()
    loading._logits.cache_clear()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    return {device: tmp_path_factory.mktemp(device) for device in ("cpu", "cuda")}


def scores(name, device, store):
    method = BUILT_IN[name]
    params = {"epochs": 1, **FEW}
    given = {f"{name}.{k}": v for k, v in params.items() if k in method.hyperparameters}
    task = SMALL["digits_cnn" if method_of(name, method).traits.conv else "digits"]
    sets = "class_9" if name == "unsir" else "forget_set_3"
    (record,) = run(
        task, name, forget_sets=sets, models=2, params=given, store=store, device=device
    )
    assert record.device.startswith(device)
    return record


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_scores_as_on_the_cpu(name, stores):
    on_cpu = scores(name, "cpu", stores["cpu"])
    forget()
    with pretended_gpu():
        there = scores(name, "cuda", stores["cuda"])
    # Odd batches are padded on a CPU alone, so that last bits differ, and of two models a bin.
    for a, b in (there.points, on_cpu.points), (there.reverse_points, on_cpu.reverse_points):
        assert np.mean(np.abs(a - b) > 1e-6) < 0.01


@pytest.fixture
def images():
    """CIFAR-10's recipe with augmentation on a small ResNet-9, whose members take turns."""
    draw = torch.Generator().manual_seed(0)
    x, val = (
        torch.randint(0, 256, (n, 3, 32, 32), generator=draw, dtype=torch.uint8) for n in (64, 21)
    )
    data = Data(x, torch.arange(64) % 10, val, torch.arange(21) % 10, "x", normalised(MEAN, STD))
    return Task(
        name="small",
        architecture=lambda: resnet9(width=4),
        load=lambda: data,
        stack=False,
        forget_sets={"first": lambda: range(8)},
        train=Recipe(epochs=2, batch_size=16, lr=0.1, label_smoothing=0.1,
                     undecayed_norm=True, mixed_precision=True, flip=True, translate=2, cutout=4),
    )  # fmt: skip


def trained(task, device, epochs, points=64):
    model = new_members(EnsembleId(task, "original", 0), [0, 1]).to(device)
    seen = task.data_on(device).points(np.arange(points), model.generators)
    recipe = replace(task.train, epochs=epochs)
    for _ in train(model, seen, recipe):
        pass
    return model.states()


@pytest.mark.parametrize("kind", ["images", "digits", "digits_cnn"])
def test_a_training_step_never_waits(kind, images):
    task = images if kind == "images" else SMALL[kind]
    batch = task.train.batch_size

    def waits(log, points):
        log.clear()
        trained(task, CUDA, 1, points)
        return dict(log.waits)

    with pretended_gpu() as log:
        trained(task, CUDA, 1)  # constants are put there once
        assert waits(log, 4 * batch) == waits(log, 2 * batch)


MOST_OPERATIONS = {"images": 330, "digits": 60, "digits_cnn": 120}
"""A training step of two members, beside views."""


@pytest.mark.parametrize("kind", MOST_OPERATIONS)
def test_a_training_step_takes_few_operations(kind, images):
    task = images if kind == "images" else SMALL[kind]
    batch = task.train.batch_size
    counts = []
    with pretended_gpu() as log:
        trained(task, CUDA, 1)
        for steps in (2, 4):
            log.clear()
            trained(task, CUDA, 1, steps * batch)
            counts.append(log.operations.total())
    each = (counts[1] - counts[0]) / 2
    assert 10 < each <= MOST_OPERATIONS[kind]


def test_training_is_that_of_the_cpu(images):
    images = replace(images, train=replace(images.train, mixed_precision=False))
    # Four steps: after eight a rounding that went over a kink of a ReLU has become .01 (measured).
    on_cpu = trained(images, torch.device("cpu"), 1)
    images.forget_data()
    with pretended_gpu():
        there = trained(images, CUDA, 1)
    for a, b in zip(on_cpu, there, strict=True):
        for name, value in a.items():  # foreach rounds otherwise where a layout is another
            torch.testing.assert_close(b[name], value, atol=1e-5, rtol=1e-4)


@pytest.fixture
def no_graphs():
    graph._captured.clear()
    yield graph._captured
    graph._captured.clear()


STEPS = 4 * 25
"""As many as make a graph worth while: 25 epochs of four batches."""


def of_layers(*more):
    """A task of small images and few layers, one member after the other."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(36, 1, 6, 6, generator=draw), torch.arange(36) % 4
    return Task(
        name="few_layers",
        architecture=lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), *more, nn.Linear(64, 4)
        ),
        load=lambda: Data(x[:32], y[:32], x[32:], y[32:]),
        stack=False,
        forget_sets={"first": lambda: range(8)},
        train=Recipe(epochs=25, batch_size=8, lr=0.02, peak_epoch=3, label_smoothing=0.1, flip=True, cutout=2),
    )  # fmt: skip


def test_a_replayed_training_is_that_of_the_cpu(no_graphs):
    task = of_layers()
    on_cpu = trained(task, torch.device("cpu"), 25, 32)
    task.forget_data()
    with pretended_gpu() as log:
        there = trained(task, CUDA, 25, 32)
        assert log.operations["graph"] == STEPS + 1  # one to see that it does the same
        log.clear()
        again = trained(task, CUDA, 25, 32)
        assert log.operations["graph"] == STEPS
        others = log.operations.total() - STEPS
        assert others <= 10 * STEPS  # rows, draws and a learning rate go there
    assert len(no_graphs) == 1  # captured once, used for two packs
    for a, b, c in zip(on_cpu, there, again, strict=True):
        for name, value in a.items():
            torch.testing.assert_close(b[name], value, atol=1e-4, rtol=1e-3)
            assert torch.equal(b[name], c[name])


class Looks(nn.Module):
    """The host reads a number that lies on the GPU."""

    def forward(self, x):
        return x if float(x.mean()) < 9 else -x


def test_what_cannot_be_captured_is_trained_step_by_step(no_graphs):
    task = of_layers(Looks())
    with pretended_gpu(), pytest.warns(KlomWarning, match="step by step, since no CUDA graph"):
        there = trained(task, CUDA, 25, 32)
    task.forget_data()
    on_cpu = trained(task, torch.device("cpu"), 25, 32)
    for a, b in zip(on_cpu, there, strict=True):
        for name, value in a.items():
            torch.testing.assert_close(b[name], value, atol=1e-4, rtol=1e-3)


class Counts(nn.Module):
    """Something that the host changes from pass to pass, and no graph sees."""

    passes = 0

    def forward(self, x):
        Counts.passes += 1
        return x * (Counts.passes % 7)


def test_a_graph_that_does_something_else_is_not_used(no_graphs):
    with pretended_gpu(), pytest.warns(KlomWarning, match="a replayed step is not that"):
        trained(of_layers(Counts()), CUDA, 25, 32)
    assert [*no_graphs.values()] == [None]


def test_methods_compute_as_training_does(images):
    """In bfloat16 in train mode, if the recipe has mixed precision, and in float32 in eval mode."""
    x = images.data.first(16)[0]
    for mixed in (True, False):
        task = replace(images, train=replace(images.train, mixed_precision=mixed))
        state = [initial_state(task.architecture, 0)]
        with pretended_gpu():
            model = task.ensemble(state).to(CUDA)
            there = x[None].to(CUDA)
            passes = {}
            for mode in (False, True):  # statistics of batches move with a pass in train mode
                model.train(mode)
                with torch.no_grad():
                    passes[mode] = model(there).cpu()
        plain = Ensemble(task.architecture, state, way=task.way[0])
        for mode, found in passes.items():
            assert found.dtype == torch.float32
            with torch.no_grad():
                expected = plain.train(mode)(x[None])
            away = float((found - expected).abs().max() / expected.abs().max())
            assert (away > 1e-4) == (mixed and mode), (mixed, mode, away)
            assert away < 0.1


def test_float32_is_not_tf32():
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    with pretended_gpu():
        device = device_named("auto")
        assert "IEEE float32" in made_with(SMALL["digits"], device)
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


def test_what_a_gpu_does_is_measured_in_one_table(no_graphs):
    """`tox run -e gpu`, which nobody runs where there is none."""
    few = Sizes(
        matrix=8,
        images=32,
        width=2,
        batch=8,
        steps=3,
        members=(1, 2),
        models=2,
        methods=("ga",),
        **SMALL,
    )
    with pretended_gpu():
        rows = dict(table(device_named("cuda"), few))
    assert rows["card"] == "pretended"
    assert {f"ResNet-9, {n} at a time, as a graph" for n in (1, 2)} < {*rows}
    assert rows["two trainings of ResNet-9"] == "the same bits"
    assert rows["margins with TF32"].startswith(
        "differ by up to 0.0e+00; mean KLOM between the two 0.0000"
    )
    assert rows["conformance"] == "0 of 1 methods are complained of"


def test_margins_and_klom_may_lie_there():
    z, y = (
        torch.randn(2, 6, 50, 10, generator=torch.Generator().manual_seed(0)),
        torch.arange(50) % 10,
    )
    on_cpu = [margins(of, y) for of in z]
    with pretended_gpu():
        there = [margins(of.to(CUDA), y.to(CUDA)) for of in z]
        found = klom(*there).cpu().numpy()
        for a, b in zip(on_cpu, there, strict=True):
            assert torch.equal(a, b.cpu())
    np.testing.assert_array_equal(found, klom(*on_cpu))


@pytest.mark.parametrize("name", ["finetune", "ga", "ssd", "scrub", "noisy_descent"])
def test_methods_conform_there(name):
    method = method_of(name, BUILT_IN[name])
    with pretended_gpu():
        assert complaints(Subject(method, method.values({}, {}), DIGITS, CUDA)) == {}
    DIGITS.forget_data()


def test_a_store_is_verified_there(tmp_path):
    task = SMALL["digits"]
    originals = EnsembleId(task, "original", 0)
    with pretended_gpu():
        (held,) = Store(tmp_path).complete([(originals, 2)], CUDA)
        assert held.margins(2, CUDA).shape == (2, 1797)
    forget()
    (again,) = Store(tmp_path).complete([(originals, 2)], torch.device("cpu"))
    assert np.array_equal(again.margins(2, torch.device("cpu")), held.margins(2, CUDA))


FAULTS = {
    "draws left on the CPU": lambda x: x + torch.randn(3, generator=torch.Generator()),
    "a range made on the CPU": lambda x: x * torch.arange(3),
    "a mask made on the CPU": lambda x: torch.where(torch.tensor([True, False, True]), x, 0),
    "a state read without .cpu()": lambda x: x.numpy(),
    "a generator of the CPU": lambda x: x.normal_(generator=torch.Generator()),
    "a factory with a generator of the CPU": lambda x: torch.randn(
        3, generator=torch.Generator(), device=x.device
    ),
    "indices there into a tensor here": lambda x: torch.arange(3.0)[x.long()],
    "weights here": lambda x: torch.nn.Linear(3, 1)(x),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_lies_on_the_wrong_side_is_seen(fault):
    with (
        pretended_gpu(),
        pytest.raises((RuntimeError, TypeError), match=r"cuda|indices should be either on cpu"),
    ):
        FAULTS[fault](torch.arange(3.0).to(CUDA))


WAITS = {
    "indices of the CPU": lambda x: x[torch.tensor([0, 2])],
    "a mask": lambda x: x[x > 1],
    "a number that is read": lambda x: float(x.sum()),
    "a branch": lambda x: 1 if x.sum() > 2 else 0,
    "a constant": lambda x: x * torch.tensor([1.0, 2.0, 3.0], device=x.device),
    "a list": lambda x: x.tolist(),
    "a copy back": lambda x: x.cpu(),
    "a copy there": lambda x: torch.zeros(3).to(x),
    "copy_": lambda x: x.copy_(torch.zeros(3)),
}


@pytest.mark.parametrize("wait", WAITS)
def test_what_makes_the_host_wait_is_seen(wait):
    with pretended_gpu() as log:
        x = torch.arange(3.0).to(CUDA)
        log.clear()
        x.mul(2).sum()
        assert not log.waits
        WAITS[wait](x)
        assert log.waits.total() >= 1
