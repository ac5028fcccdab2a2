"""Any built-in method, on two members of a net that has all that one of them needs."""

import torch
from helpers.by_hand import X, Y, streams
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating, initial_state
from klom_bench.ensemble.points import Points
from klom_bench.methods import BUILT_IN
from klom_bench.methods.needs import Datamodels, oracles_for
from klom_bench.tasks import DIGITS, Data


def normed():
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 2, 3),
        nn.Flatten(),
        nn.Linear(72, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Linear(8, 10),
    )


def any_method(name, **settings):
    """Any built-in method on a few points: model, forget, retain.

    Two members of a net with BatchNorm and a conv layer; F is a class of its own.
    """
    gens = streams()
    nines = torch.tensor([i for i in range(60) if Y[i] == 9])
    others = torch.tensor([i for i in range(60) if Y[i] != 9])
    model = Ensemble(normed, [initial_state(normed, i) for i in range(2)], (0, 1), gens).train()
    forget, retain = (Points(X[:60], Y[:60], rows, gens) for rows in (nines, others))
    g = torch.Generator().manual_seed(0)
    logits = torch.randn((40, 60, 10), generator=g)
    data = Data(X[:60], Y[:60], X[60:60], Y[60:60], "")
    masks = torch.rand((40, 60), generator=g) < 0.5
    given = {
        "task": DIGITS,
        "oracles": oracles_for([0, 1], logits, Y[:60]),
        "datamodels": Datamodels(masks.numpy(), logits, data),
    }
    method = BUILT_IN[name]
    own = {"lr": 0.01, "epochs": 3, "batch_size": 16, "noise_size": 16, "k": 2}
    own |= {"attack_steps": 5, "noise_steps": 3, "examples": 20, "samples": 2, "iterations": 3}
    own["unseen"] = 0.0  # of LoTUS, which else were done before the first epoch
    own = {n: v for n, v in own.items() if n in method.hyperparameters}
    needs = {n: given[n] for n in method.needs}
    for _ in method(model, forget, retain, **needs, **{**own, **settings}):
        with evaluating(model):
            model(X[:4].expand(2, -1, -1))  # as between two epochs of a run
    return model, forget, retain
