"""`digits`: 1,797 real handwritten digits (8x8 pixels, 10 classes) that ship with scikit-learn."""

import hashlib
from dataclasses import replace
from functools import partial
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError
from klom_bench.models.cnn import cnn
from klom_bench.models.mlp import mlp
from klom_bench.tasks.data import Data
from klom_bench.tasks.task import Task
from klom_bench.tasks.tuned import provenance, tunings

TRAIN_POINTS = 1438


def _csv() -> Path:
    """The file behind scikit-learn's load_digits, found without importing scikit-learn (1 s)."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise KlomError("the task digits needs scikit-learn, whose data it uses: pip install it")
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of whole numbers [n, ...], float32 [...].

    Sums of whole numbers are exact, so that the data are the same bits on every machine.
    """
    n, total, squares = len(values), values.sum(0), (values * values).sum(0)
    variance = (n * squares - total * total) / (n * (n - 1))
    return (total / n).astype(np.float32), np.sqrt(variance).astype(np.float32)


def load() -> Data:
    """A fixed stratified split: of every class, a random fifth (rounded) is val."""
    table = np.loadtxt(_csv(), delimiter=",", dtype=np.int64)
    pixels, labels = table[:, :-1].astype(np.uint8), table[:, -1]
    shuffle = np.random.RandomState(0)  # its stream is frozen, unlike default_rng's
    val = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        mine = shuffle.permutation(np.flatnonzero(labels == c))
        val[mine[: round(len(mine) / 5)]] = True
    x = torch.from_numpy(pixels.astype(np.float32))
    mean, std = (torch.from_numpy(v) for v in moments(pixels[~val].astype(np.int64)))
    x = (x - mean) / torch.where(std > 0, std, 1.0)
    y = torch.from_numpy(labels)
    sha256 = hashlib.sha256(pixels.tobytes() + labels.tobytes() + val.tobytes()).hexdigest()
    return Data(x[~val], y[~val], x[val], y[val], sha256)


def load_images() -> Data:
    """The same, each point an image [1, 8, 8]."""
    data = load()
    x_train, x_val = (x.view(-1, 1, 8, 8) for x in (data.x_train, data.x_val))
    return replace(data, x_train=x_train, x_val=x_val)


def _indices(name: str) -> np.ndarray:
    file = files("klom_bench.tasks") / "digits_forget_sets" / f"{name}.npy"
    with file.open("rb") as stream:
        return np.asarray(np.load(stream, allow_pickle=False))


TUNED = tunings(files("klom_bench.tasks") / "digits_tuning")

FORGET_SETS = {
    name: partial(_indices, name)
    for name in (*(f"forget_set_{i}" for i in range(1, 11)), "class_9")
}

DIGITS = Task(
    name="digits",
    folder="DIGITS",
    architecture=mlp,
    recipe=Recipe(epochs=20, batch_size=64, lr=0.1),
    load=load,
    train_points=TRAIN_POINTS,
    forget_sets=FORGET_SETS,
    hyperparameters={method: found["chosen"] for method, found in TUNED.items()},
    tunings={method: provenance(found) for method, found in TUNED.items()},
)

DIGITS_CNN = Task(
    name="digits_cnn",
    folder="DIGITS_CNN",
    architecture=cnn,
    recipe=Recipe(epochs=10, batch_size=64, lr=0.1),
    load=load_images,
    train_points=TRAIN_POINTS,
    forget_sets=FORGET_SETS,
)
