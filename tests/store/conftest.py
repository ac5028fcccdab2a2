import shutil

import pytest
from helpers.ensembles import CPU, ORACLES
from helpers.nets import oracles, originals, task

from klom_bench.store.store import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def filled(small_store, tmp_path):
    """A copy of a store with 4 oracles of forget_set_3."""
    Store(small_store).complete([(ORACLES, 4)], CPU)
    new = Store(tmp_path / "store")
    without = shutil.ignore_patterns(".claims")
    shutil.copytree(Store(small_store).folder(ORACLES), new.folder(ORACLES), ignore=without)
    return new


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    mine = task()
    Store(root).complete([(originals(mine), 3), (oracles(mine), 3)], CPU)
    return root


@pytest.fixture
def root(trained, tmp_path):
    target = tmp_path / "store"
    shutil.copytree(trained, target)
    return target
