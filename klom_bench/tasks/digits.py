"""`digits`: 1,797 real handwritten digits (8x8 pixels, 10 classes) that ship with scikit-learn."""

import hashlib
from functools import partial
from importlib.resources import files

import numpy as np
import torch

from klom_bench.ensemble.training import Recipe
from klom_bench.models.mlp import mlp
from klom_bench.tasks.task import Data, Task

TRAIN_POINTS = 1438


def load() -> Data:
    """A fixed stratified split: of every class, a random fifth (rounded) is val."""
    from sklearn.datasets import load_digits  # 0.8 s that only this task should cost

    digits = load_digits()
    pixels, labels = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    shuffle = np.random.RandomState(0)  # its stream is frozen, unlike default_rng's
    val = np.zeros(len(labels), dtype=bool)
    for c in range(10):
        mine = shuffle.permutation(np.flatnonzero(labels == c))
        val[mine[: round(len(mine) / 5)]] = True
    x = torch.from_numpy(pixels.astype(np.float32))
    mean, std = x[~val].mean(0), x[~val].std(0)
    x = (x - mean) / torch.where(std > 0, std, 1.0)
    y = torch.from_numpy(labels)
    sha256 = hashlib.sha256(pixels.tobytes() + labels.tobytes() + val.tobytes()).hexdigest()
    return Data(x[~val], y[~val], x[val], y[val], sha256)


def _indices(number: int) -> np.ndarray:
    file = files("klom_bench.tasks") / "digits_forget_sets" / f"forget_set_{number}.npy"
    with file.open("rb") as stream:
        return np.asarray(np.load(stream, allow_pickle=False))


DIGITS = Task(
    name="digits",
    folder="DIGITS",
    architecture=mlp,
    recipe=Recipe(epochs=20, batch_size=64, lr=0.1),
    load=load,
    train_points=TRAIN_POINTS,
    forget_sets={f"forget_set_{i}": partial(_indices, i) for i in range(1, 11)},
)
