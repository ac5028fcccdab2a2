"""`digits`: 1,797 real handwritten digits, 8x8 pixels, 10 classes (source: `digits_data`)."""

import hashlib
from dataclasses import replace
from functools import partial
from importlib.resources import files

import numpy as np
import torch

from klom_bench.ensemble.training import Recipe
from klom_bench.models.cnn import cnn
from klom_bench.models.mlp import mlp
from klom_bench.tasks.data import Data
from klom_bench.tasks.task import Task
from klom_bench.tasks.tuned import provenance, tunings

FILES = files("klom_bench.tasks")


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of whole numbers [n, ...], float32 [...].

    Sums of whole numbers are exact, so that the data are the same bits on every machine.
    """
    n, total, squares = len(values), values.sum(0), (values * values).sum(0)
    variance = (n * squares - total * total) / (n * (n - 1))
    return (total / n).astype(np.float32), np.sqrt(variance).astype(np.float32)


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [n, 64], labels, and which are val: a fixed split, of every class a random fifth."""
    with (FILES / "digits_data" / "digits.npz").open("rb") as stream:
        arrays = np.load(stream, allow_pickle=False)
        pixels, labels = arrays["pixels"], arrays["labels"].astype(np.int64)
    shuffle = np.random.RandomState(0)  # its stream is frozen, unlike default_rng's
    val = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        mine = shuffle.permutation(np.flatnonzero(labels == c))
        val[mine[: round(len(mine) / 5)]] = True
    return pixels, labels, val


def train_images() -> np.ndarray:
    """The train points as they were drawn: [n, 8, 8] from 0 to 16, to be looked at."""
    pixels, _, val = drawn()
    images: np.ndarray = pixels[~val].reshape(-1, 8, 8)
    return images


def load() -> Data:
    """Train and val points, each pixel with mean 0 and variance 1 over the train points."""
    pixels, labels, val = drawn()
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
    file = FILES / "digits_forget_sets" / f"{name}.npy"
    with file.open("rb") as stream:
        return np.asarray(np.load(stream, allow_pickle=False))


TUNED, TUNED_CNN = (tunings(FILES / f"{name}_tuning") for name in ("digits", "digits_cnn"))

FORGET_SETS = {
    name: partial(_indices, name)
    for name in (*(f"forget_set_{i}" for i in range(1, 11)), "class_9")
}

DIGITS = Task(
    name="digits",
    architecture=mlp,
    train=Recipe(epochs=20, batch_size=64, lr=0.1),
    load=load,
    forget_sets=FORGET_SETS,
    hyperparameters={method: found["chosen"] for method, found in TUNED.items()},
    tunings={method: provenance(found) for method, found in TUNED.items()},
)

DIGITS_CNN = Task(
    name="digits_cnn",
    architecture=cnn,
    train=Recipe(epochs=10, batch_size=64, lr=0.1),
    load=load_images,
    forget_sets=FORGET_SETS,
    hyperparameters={method: found["chosen"] for method, found in TUNED_CNN.items()},
    tunings={method: provenance(found) for method, found in TUNED_CNN.items()},
)
