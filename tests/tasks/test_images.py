"""Images as the published tasks have them (uint8, BatchNorm, augmentation), but few and small."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from klom_bench.cell.cell import Cell
from klom_bench.cell.measure import measure
from klom_bench.ensemble.training import Recipe
from klom_bench.methods import BUILT_IN
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.margins import margins
from klom_bench.models.resnet9 import resnet9
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.images import normalised
from klom_bench.tasks.task import Data, Task

pytestmark = pytest.mark.no_cover  # others cover the same code, and tracing costs a fifth

CPU = torch.device("cpu")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def load():
    """Three classes of colour; val images are larger, as those of Living-17 are."""
    g = torch.Generator().manual_seed(0)

    def images(count, size):
        y = torch.arange(count) % 3
        x = torch.randint(0, 120, (count, 3, size, size), generator=g, dtype=torch.uint8)
        x[torch.arange(count), y] += 60
        return x, y

    return Data(*images(66, 32), *images(15, 36), "made up", normalised(MEAN, STD))


TASK = Task(
    name="mini",
    architecture=partial(resnet9, classes=3, width=4),
    train=Recipe(
        epochs=3,
        batch_size=16,
        lr=0.1,
        peak_epoch=1,
        mixed_precision=True,
        flip=True,
        translate=2,
        cutout=8,
        label_smoothing=0.1,
        undecayed_norm=True,
    ),
    load=load,
    forget_sets={"forget_set_1": lambda: np.arange(9)},
    pack=1,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("images"))


def cell(name, members=3, **given):
    method = BUILT_IN[name]
    return Cell(
        task=TASK,
        method=method,
        hyperparameters=method.values(given, {}),
        forget_set=TASK.forget_set("forget_set_1"),
        members=members,
        oracles=3,
        seed=0,
        estimator=ESTIMATORS["default"],
        device=CPU,
    )


ON_SMALL = {  # larger thresholds are never reached here, and curvature is negative without damping
    "ssd": {"alpha": 0.5},
    "lfssd": {"alpha": 0.5},
    "influence": {"damping": 100.0, "iterations": 2},
    "amun": {"attack_steps": 2},  # 50 take 20 seconds
    "iu": {"examples": 20},
}
CLASS_WISE = {"unsir"}  # and the sets here are none
DATAMODELS = {"dm_direct", "dmm"}  # halves of so few points train nothing: refused as diverged


@pytest.mark.parametrize("name", [n for n in BUILT_IN if n not in CLASS_WISE | DATAMODELS])
def test_every_method_runs(store, name):
    known = BUILT_IN[name].hyperparameters
    usual = {n: v for n, v in {"lr": 0.01, "epochs": 1}.items() if n in known}
    record = measure(cell(name, members=2, **usual, **ON_SMALL.get(name, {})), store)
    assert np.isfinite(record.points).all()
    assert record.points.shape == (81,)


def test_margins_are_those_of_single_models(store):
    """Each state dict in a plain network, fed with float images normalised by hand."""
    store.complete([(EnsembleId(TASK, "original", 0), 3)], CPU)
    ensemble = EnsembleId(TASK, "original", 0)
    data, found = TASK.data, store.held(ensemble).margins(3, CPU)
    m, s = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    for row, state in zip(found, store.held(ensemble).states_of(range(3)), strict=True):
        net = TASK.architecture().eval()
        net.load_state_dict(state)
        with torch.no_grad():
            z = torch.cat([net((x / 255 - m) / s) for x in (data.x_train, data.x_val)])
        np.testing.assert_allclose(row, margins(z, data.y()).numpy(), rtol=1e-4, atol=1e-4)


def test_packs_of_one_are_as_packs_of_three(store, tmp_path):
    """Up to rounding: three at once are stacked layer by layer."""
    other = Store(tmp_path)
    three = EnsembleId(replace(TASK, pack=3), "original", 0)
    other.complete([(three, 3)], CPU)
    a, b = (
        store.held(EnsembleId(TASK, "original", 0)).margins(3, CPU),
        other.held(three).margins(3, CPU),
    )
    np.testing.assert_allclose(a, b, rtol=1e-2, atol=1e-2)


def test_data_stay_as_they_were(store):
    before = TASK.data.x_train.clone()
    measure(cell("scrub", lr=0.01, epochs=2), store)
    assert TASK.data.x_train.dtype == torch.uint8
    assert torch.equal(TASK.data.x_train, before)
