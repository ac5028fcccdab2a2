"""Sound methods on tasks that are not ours: two classes, BatchNorm, dropout, tokens, images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from klom_bench.conformance.checks import complaints
from klom_bench.conformance.subject import Subject
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.training import Recipe
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.tasks import DIGITS, Data, Task

pytestmark = pytest.mark.no_cover  # others cover the same code, and tracing costs a fifth

CPU = torch.device("cpu")


def load():
    x, y = torch.randn(300, 10, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 2
    x[range(300), y] += 1.5
    return Data(x[:240], y[:240], x[240:], y[240:])


def load_tokens():
    x = torch.randint(20, (300, 6), generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 9).long()
    return Data(x[:240], y[:240], x[240:], y[240:])


class BatchNormed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.norm, self.head = nn.Linear(10, 32), nn.BatchNorm1d(32), nn.Linear(32, 2)

    def forward(self, x):
        return self.head(self.norm(self.layer(x)).relu())


class Noisy(BatchNormed):
    def forward(self, x):
        noise = torch.tensor(np.random.randn(len(x), 2)).to(x) if self.training else 0.0
        return super().forward(x) + noise


def task(name, architecture, load=load):
    sets = {"f": lambda: np.arange(20)}
    return Task(
        name=name,
        architecture=architecture,
        load=load,
        forget_sets=sets,
        train=Recipe(8, 32, 0.05),
    )


TASKS = {
    "two": task("two", lambda: nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 2))),
    "normed": task("normed", BatchNormed),
    "dropout": task(
        "dropout",
        lambda: nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2)),
    ),
    "tokens": task(
        "tokens",
        lambda: nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(48, 2)),
        load_tokens,
    ),
    "noisy": task("noisy", Noisy),
}


def examine(function, of):
    function = BUILT_IN.get(function, function)
    method = method_of(function.__name__, function)
    return complaints(Subject(method, method.values({}, {}), of, CPU))


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("two", ["boundary_shrink", "scrub"]),
        ("normed", ["bad_teacher", "finetune"]),
        ("dropout", ["ga", "scrub", "finetune"]),
        ("tokens", ["ga", "finetune", "retrain"]),
    ],
)
def test_sound_methods_pass(name, methods):
    for method in methods:
        assert examine(method, TASKS[name]) == {}, method


@pytest.mark.parametrize("name", ["two", "tokens"])
def test_spares_are_noise_in_the_range_of_the_data(name):
    method = BUILT_IN["ga"]
    small = Subject(method, method.values({}, {}), TASKS[name], CPU).on_task.small
    x, spares = small.data.x_train, small.forget_set("spares").indices
    others = x[: spares[0]]
    assert x.dtype == TASKS[name].data.x_train.dtype
    assert bool(((x[spares] >= others.amin(0)) & (x[spares] <= others.amax(0))).all())
    span = (others.amax(0) - others.amin(0)).double()
    assert bool(((x[spares].amax(0) - x[spares].amin(0)).double() > 0.6 * span).all())


def step(model, x, y, lr=0.05):
    loss = cross_entropy(model(x), y)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    with torch.no_grad():
        for p, g in zip(model.parameters(), grads, strict=True):
            p -= lr * g


def by_decay_alone(model, forget, retain, *, lr=1e-3, epochs=2):
    """Adam whose gradient of the head never arrives: only weight decay moves it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
    for _ in range(epochs):
        for x, y in forget.batches(16):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            model.network.head.weight.grad = torch.zeros_like(model.network.head.weight)
            optimizer.step()
        for x, y in retain.batches(16):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            model.network.head.weight.grad = torch.zeros_like(model.network.head.weight)
            optimizer.step()
        yield


def test_what_is_moved_by_decay_alone_is_still_seen():
    """Other data make no other gradient, so that nothing excuses it."""
    (complaint,) = examine(by_decay_alone, TASKS["normed"])["trains_what_it_says"]
    assert complaint.startswith("head.weight changed, but alike for other data")


def test_a_model_that_does_not_repeat_is_blamed_and_no_method():
    wrong = examine("ga", TASKS["noisy"])
    assert [*wrong] == ["the_model_repeats_itself"]
    (complaint,) = wrong["the_model_repeats_itself"]
    assert complaint.startswith("the model draws from NumPy, random or a generator of its own")


def peeks_at_val(model, forget, retain, *, task):
    """Looks at val points as models see them, of a task whose images are bytes."""
    x = task.data.prepare(task.data.x_val)[:8]
    with torch.no_grad():
        model(x.expand(len(model), *x.shape).contiguous())
    for points in (forget, retain):
        for x, y in points.batches(16):
            step(model, x, y)
    yield


def does_not_peek(model, forget, retain, *, task):
    for points in (forget, retain):
        for x, y in points.batches(16):
            step(model, x, y)
    yield


def test_val_images_that_are_stored_as_bytes_are_known_again():
    data = DIGITS.data
    low = data.x_train.amin()
    pixels = {
        name: ((getattr(data, name) - low) * 20).clamp(0, 255).byte()
        for name in ("x_train", "x_val")
    }
    images = replace(
        DIGITS,
        name="bytes",
        load=lambda: replace(data, prepare=lambda x: x.float() / 20 + low, **pixels),
    )
    (complaint,) = examine(peeks_at_val, images)["no_validation_point_is_seen"]
    assert complaint == "8 validation points were given to a model"
    assert examine(does_not_peek, images) == {}
