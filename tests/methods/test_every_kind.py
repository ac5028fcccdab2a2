"""Every method on every kind of model: it is measured, or says in a line why not."""

import numpy as np
import pytest
from helpers.any_model import DROPPING, KINDS, Y

from klom_bench import Data, KlomError, Recipe, Task
from klom_bench.methods import BUILT_IN

pytestmark = pytest.mark.examples
MIXING = ("mixing", "mixing first")
"""A point alone is no batch for them, of which `iu` takes gradients."""
MODELS = {n: k for n, k in KINDS.items() if n not in MIXING}
MODELS |= {f"dropping {name}": kind for name, kind in DROPPING.items()}
TOLD = ("changed nothing", "ends in nn.Linear")
"""By `lotus`, whose rule leaves members that are right on F no more often than on unseen points, and
by `boundary_expand`."""


def rows_of(x, rows):
    if isinstance(x, dict):
        return {name: t[rows] for name, t in x.items()}
    return tuple(t[rows] for t in x) if isinstance(x, tuple) else x[rows]


@pytest.mark.parametrize("kind", MODELS)
def test_every_method_runs_or_says_why_not(kind, cell, measured):
    architecture, x = MODELS[kind]
    task = Task(
        name="every_kind",
        folder=kind.upper().replace(" ", "_"),
        architecture=architecture,
        load=lambda: Data(rows_of(x, slice(8)), Y[:8], rows_of(x, slice(8, None)), Y[8:]),
        forget_sets={"two": [0, 1]},
        train=Recipe(epochs=2, batch_size=4, lr=0.05),
    )
    found, told = [], []
    for name, method in BUILT_IN.items():
        few = {n: v for n, v in {"epochs": 2, "subsets": 4}.items() if n in method.hyperparameters}
        asked = {"task": task, "forget_set": "two", "members": 2, **few}
        if reason := cell(name, **asked).unfit:
            told.append(reason)
            continue
        try:
            found.append(measured(name, **asked))
        except KlomError as error:
            told.append(str(error))
            if not any(text in str(error) for text in TOLD):
                raise
    assert len(found) >= 27
    assert len(found) + len(told) == len(BUILT_IN)
    assert all(np.isfinite(record.points).all() for record in found)
