"""Several labels a point: whether a digit is even, above four, prime."""

from dataclasses import replace

import torch

from klom_bench import Recipe, Task, mlp, multi_label
from klom_bench.tasks.digits import DIGITS


def properties(y):
    prime = torch.isin(y, torch.tensor([2, 3, 5, 7]))
    return torch.stack([y % 2 == 0, y > 4, prime], 1).float()


def load():
    data = DIGITS.data
    return replace(data, y_train=properties(data.y_train), y_val=properties(data.y_val))


task = Task(
    name="properties",
    architecture=lambda: mlp(64, 64, 3),
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=Recipe(epochs=10, batch_size=64, lr=0.1),
    outputs=multi_label,
)
