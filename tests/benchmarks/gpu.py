"""What the GPU of this machine does with klom-bench: `tox run -e gpu`.

Prints a table for docs/costs.md. Without a GPU it says so, and all is well.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from klom_bench import Data, klom
from klom_bench.conformance.checks import complaints
from klom_bench.conformance.subject import Subject
from klom_bench.ensemble.device import ARITHMETIC, device_named, finish
from klom_bench.ensemble.graph import Graph
from klom_bench.ensemble.step import Step
from klom_bench.ensemble.training import train
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor
from klom_bench.models.resnet9 import resnet9
from klom_bench.store.training import evaluate_pack, new_members, train_pack
from klom_bench.tasks import DIGITS, DIGITS_CNN, Task
from klom_bench.tasks.cifar10 import CIFAR10_AUGMENTED, MEAN, STD
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.images import normalised

FLOPS = 1.744e9
"""Of training a ResNet-9 of the usual width on an image of CIFAR-10."""
Row = tuple[str, str]


@dataclass(frozen=True)
class Sizes:
    """How much of everything. matrix: rows. images: of a made-up CIFAR-10. steps: timed ones."""

    matrix: int = 8192
    images: int = 25_600
    width: int = 64
    batch: int = 256
    steps: int = 100
    members: tuple[int, ...] = (1, 2, 4)
    models: int = 100
    methods: tuple[str, ...] = tuple(BUILT_IN)
    digits: Task = DIGITS
    digits_cnn: Task = DIGITS_CNN


def table(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """What was measured, in words and numbers."""
    yield "card", torch.cuda.get_device_name(device)
    yield "torch", f"{torch.__version__}, CUDA {torch.version.cuda}, {ARITHMETIC}"
    rates = {dtype: matrix_rate(device, sizes, dtype) for dtype in (torch.bfloat16, torch.float32)}
    for dtype, rate in rates.items():
        yield f"matrix product, {str(dtype)[6:]}", f"{rate / 1e12:.0f} TFLOP/s"
    task = cifar(sizes)
    for members in sizes.members:
        for name, replayed in (("step by step", False), ("as a graph", True)):
            images, memory = training_rate(device, task, sizes, members, replayed)
            share = images * FLOPS / rates[torch.bfloat16]
            yield (
                f"ResNet-9, {members} at a time, {name}",
                f"{images:,.0f} images/s, {share:.0%} of the bfloat16 rate, {memory:.1f} GB",
            )
    yield "two trainings of ResNet-9", repeats(device, task)
    yield from small_models(device, sizes)
    yield "margins with TF32", tf32(device, sizes)
    yield "conformance", false_alarms(device, sizes)


@contextmanager
def timed(device: torch.device, found: list[float]) -> Iterator[None]:
    """Adds the seconds that it takes until all is done."""
    finish(device)
    start = time.perf_counter()
    yield
    finish(device)
    found.append(time.perf_counter() - start)


def matrix_rate(device: torch.device, sizes: Sizes, dtype: torch.dtype) -> float:
    """Operations a second of the best of ten products."""
    a, b = (torch.ones(sizes.matrix, sizes.matrix, dtype=dtype, device=device) for _ in "ab")
    taken: list[float] = []
    for _ in range(10):
        with timed(device, taken):
            a @ b
    return 2 * sizes.matrix**3 / min(taken)


def cifar(sizes: Sizes) -> Task:
    """CIFAR-10's task with augmentation, its images made up."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (sizes.images, 3, 32, 32), generator=draw, dtype=torch.uint8)
    y = torch.arange(sizes.images) % 10
    data = Data(x, y, x[:100], y[:100], "made up", normalised(MEAN, STD))
    return replace(
        CIFAR10_AUGMENTED,
        name="made_up",
        folder="made_up",
        architecture=lambda: resnet9(width=sizes.width),
        load=lambda: data,
        train=replace(CIFAR10_AUGMENTED.recipe, batch_size=sizes.batch, epochs=2, peak_epoch=1),
        forget_sets={"first": lambda: range(10)},
        published=None,
        download=None,
    )


def training_rate(
    device: torch.device, task: Task, sizes: Sizes, members: int, replayed: bool
) -> tuple[float, float]:
    """Images a second, and GB at most."""
    torch.cuda.reset_peak_memory_stats(device)
    model = new_members(EnsembleId(task, "original", 0), [*range(members)]).to(device).train()
    points = task.data_on(device).points(np.arange(sizes.images), model.generators)
    step = Step(model, points, task.recipe)
    every = [*step.epoch()]
    take: Callable[[Tensor, Tensor | None, float], None] = step
    if replayed:
        take = Graph(step, *every[0])
    for rows, drawn in every[:3]:
        take(rows, drawn, 0.01)
    taken: list[float] = []
    with timed(device, taken):
        for i in range(sizes.steps):
            rows, drawn = every[i % len(every)]
            take(rows, drawn, 0.01)
    memory = torch.cuda.max_memory_allocated(device) / 2**30
    return sizes.steps * sizes.batch * members / taken[0], memory


def repeats(device: torch.device, task: Task) -> str:
    """Whether a training repeats bit for bit."""
    found = []
    for _ in range(2):
        model = new_members(EnsembleId(task, "original", 0), [0]).to(device)
        points = task.data_on(device).points(np.arange(task.train_points), model.generators)
        for _ in train(model, points, task.recipe):
            pass
        found.append(model.states()[0])
    away = max(float((a - found[1][name]).abs().max()) for name, a in found[0].items())
    return "the same bits" if away == 0 else f"weights differ by up to {away:.1e}"


def small_models(device: torch.device, sizes: Sizes) -> Iterator[Row]:
    """`digits`: packs of 25 beside all at once."""
    ensemble = EnsembleId(sizes.digits, "original", 0)
    for members in dict.fromkeys((min(25, sizes.models), sizes.models)):
        taken: list[float] = []
        for _ in range(2):
            with timed(device, taken):
                train_pack(ensemble, [*range(members)], device, lambda: None, lambda _: None)
        yield f"digits, {members} at a time", f"{members / min(taken):,.0f} models/s"


def tf32(device: torch.device, sizes: Sizes) -> str:
    """KLOM between the margins of the same models with TF32 and without, beside the floor."""
    ensemble, members = EnsembleId(sizes.digits_cnn, "original", 0), [*range(sizes.models)]
    trained = train_pack(ensemble, members, device, lambda: None, lambda _: None)
    states = {one.member: one.state for one in trained}
    margins = []
    for allowed in (False, True):
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
        margins.append(np.stack([e.train_margins for e in evaluate_pack(ensemble, states, device)]))
    device_named(str(device))  # as ever
    away, usual = float(np.mean(klom(*margins))), floor(ESTIMATORS["default"], *[sizes.models] * 2)
    return (
        f"differ by up to {np.abs(margins[0] - margins[1]).max():.1e}; mean KLOM between the two "
        f"{away:.4f} (floor {usual.mean:.2f})"
    )


def false_alarms(device: torch.device, sizes: Sizes) -> str:
    """Built-in methods, of which none should be complained of."""
    wrong = {}
    for name in sizes.methods:
        method = method_of(name, BUILT_IN[name])
        task = sizes.digits_cnn if method.traits.conv else sizes.digits
        if found := complaints(Subject(method, method.values({}, {}), task, device)):
            wrong[name] = ", ".join(found)
    told = "; ".join(f"{name}: {what}" for name, what in wrong.items())
    return f"{len(wrong)} of {len(sizes.methods)} methods are complained of {told}".strip()


def main() -> None:
    """A table in Markdown, row by row as they are measured."""
    if not torch.cuda.is_available():
        print("there is no GPU on this machine: nothing was measured")
        return
    print("| what | measured |\n|---|---|", flush=True)
    for what, measured in table(device_named("cuda"), Sizes()):
        print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()
