"""Progression of diabetes: a number, not a class; margins are signed residuals."""

import torch
from sklearn.datasets import load_diabetes

from klom_bench import Data, Recipe, Task, mlp, regression


def load():
    x, y = (torch.tensor(a).float() for a in load_diabetes(return_X_y=True))
    x, y = ((v - v.mean(0)) / v.std(0) for v in (x, y))
    return Data(x[:350], y[:350], x[350:], y[350:])


task = Task(
    name="diabetes",
    architecture=lambda: mlp(10, 32, 1),
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=Recipe(epochs=20, batch_size=32, lr=0.01),
    outputs=regression,
)
