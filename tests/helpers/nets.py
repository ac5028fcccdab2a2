import numpy as np
import torch
from torch import nn

from klom_bench.ensemble.training import Recipe
from klom_bench.tasks.data import Data
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.task import Task

CPU = torch.device("cpu")


def load(labels=lambda y: y, word="", x_scale=1.0, prepare=None, far=0.0):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(240, 12, generator=g), torch.arange(240) % 3
    x[range(240), y] += 2
    x[7] += far
    x, y = x * x_scale, labels(y.clone())
    more = {} if prepare is None else {"prepare": prepare}
    return Data(x[:180], y[:180], x[180:], y[180:], word, **more)


class Net(nn.Module):
    """As users write them: dropout in two ways, layers that only `forward` knows."""

    def __init__(
        self,
        p=0.2,
        act=nn.ReLU,
        functional=0.0,
        spread=1.0,
        sign=1.0,
        momentum=0.1,
        detach=False,
        frozen=False,
    ):
        super().__init__()
        self.norm = nn.BatchNorm1d(16, momentum=momentum)
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 3)
        self.act, self.drop = act(), nn.Dropout(p)
        self.functional, self.sign, self.detach = functional, sign, detach
        self.first.requires_grad_(not frozen)
        with torch.no_grad():
            self.first.weight.mul_(spread)

    def forward(self, x):
        h = self.first(x).detach() if self.detach else self.first(x)
        h = self.drop(self.act(h) + self.norm(h))
        h = nn.functional.dropout(h, self.functional, self.training)
        return self.sign * self.last(h)


def task(architecture=Net, recipe=None, **changes):
    recipe = recipe or Recipe(epochs=3, batch_size=32, lr=0.05)
    sets = {"first_ten": lambda: np.arange(10)}
    return Task(
        name="own",
        architecture=architecture,
        load=lambda: load(**changes),
        forget_sets=sets,
        train=recipe,
    )


def originals(of):
    return EnsembleId(of, "original", 0)


def oracles(of):
    return EnsembleId(of, "oracle", 0, of.forget_set("first_ten"))


CHANGES = {
    "labels": (task(labels=lambda y: 2 - y), r"the data changed since \(y_train, y_val\)"),
    "a val label": (
        task(labels=lambda y: torch.cat([y[:-1], 2 - y[-1:]])),
        r"the data changed since \(y_val\)",
    ),
    "one input": (task(far=1.0), r"the data changed since \(x_train\)"),
    "the scale": (task(x_scale=1.001), r"the data changed since \(x_train, x_val\)"),
    "prepare": (task(prepare=lambda x: x / 2), "give other logits in train mode"),
    "prepare of one feature": (
        task(prepare=lambda x: torch.cat([x[..., :11], -x[..., 11:]], -1)),
        "give other logits in train mode",
    ),
    "activation": (
        task(lambda: Net(act=nn.GELU)),
        r"act is ReLU\(\) there, GELU\(approximate='none'\) now",
    ),
    "dropout": (
        task(lambda: Net(p=0.9)),
        r"drop is Dropout\(p=0.2, inplace=False\) there, Dropout\(p=0.9",
    ),
    "dropout that only forward knows": (
        task(lambda: Net(functional=0.5)),
        "give other logits in train mode",
    ),
    "what forward does": (task(lambda: Net(sign=-1.0)), "give other logits in train mode"),
    "initial weights": (task(lambda: Net(spread=3.0)), "initial weights are drawn otherwise"),
    "what is trained": (task(lambda: Net(detach=True)), "have other gradients"),
    "what is frozen": (task(lambda: Net(frozen=True)), "have other gradients"),
    "epochs": (task(recipe=Recipe(epochs=4, batch_size=32, lr=0.05)), "recipe: "),
    "what only training sees": (
        task(lambda: Net(momentum=0.5)),
        r"BatchNorm1d\(16, eps=1e-05, momentum=0.1,.* there, .*momentum=0.5",
    ),
    "recipe": (task(recipe=Recipe(epochs=3, batch_size=32, lr=0.1)), "recipe: "),
}
