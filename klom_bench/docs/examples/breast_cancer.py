"""Tumours: a table, a network with LayerNorm and dropout, AdamW and early stopping."""

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn
from torch.nn.functional import cross_entropy

from klom_bench import Data, Task, per_model


def load():
    x, y = (torch.tensor(a) for a in load_breast_cancer(return_X_y=True))
    x = ((x - x.mean(0)) / x.std(0)).float()
    return Data(x[:450], y[:450], x[450:], y[450:])


def net():
    layers = [nn.Linear(30, 32), nn.LayerNorm(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2)]
    return nn.Sequential(*layers)


@per_model
def train(model, points, *, epochs=30, lr=3e-3, patience=3):
    held, mine = points.split(0.15)
    x, y = held.tensors()
    optimizer, best, waited = torch.optim.AdamW(model.parameters(), lr=lr), float("inf"), 0
    for _ in range(epochs):
        for xs, ys in mine.batches(32):
            optimizer.zero_grad()
            cross_entropy(model(xs), ys).backward()
            optimizer.step()
        with torch.no_grad():
            loss = float(cross_entropy(model.eval()(x), y))
        model.train()
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        yield
        if waited == patience:
            return


task = Task(
    name="breast_cancer",
    architecture=net,
    load=load,
    forget_sets={"first_20": lambda: range(20)},
    train=train,
    hyperparameters={"dm_direct": {"subsets": 20}, "dmm": {"subsets": 20}},
)
