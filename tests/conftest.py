import gc
import importlib
import os
import sys
from pathlib import Path

import pytest
import torch
from helpers.processes import LIGHT

from klom_bench.cell.cell import Cell
from klom_bench.cell.limits import Limits
from klom_bench.cell.measure import measure
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS

CPU = torch.device("cpu")


def pytest_ignore_collect(collection_path, config):
    """With `-m` and one of these marks: files that do not name the mark take long to import."""
    mark = config.option.markexpr
    if mark in ("processes", "gates", "examples", "ray") and collection_path.suffix == ".py":
        return f".{mark}" not in collection_path.read_text() or None
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Those that wait for processes come first: beside them a worker computes, and none is last."""
    items.sort(key=lambda item: item.get_closest_marker("processes") is None)


@pytest.fixture(scope="session", autouse=True)
def all_of_torch():
    """Import now what the first optimizer and a run of the plugin import.

    pytester's runs in this process forget the modules that they were the first to import, and some
    of these abort the process when they are imported again. At its end each of them has everything
    collected five times: never what is here now.
    """
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    for name in ("checks", "github", "progress", "reporting", "run", "terminal_report"):
        importlib.import_module(f"klom_bench.plugin.{name}")
    gc.freeze()


@pytest.fixture(scope="session")
def small_store(tmp_path_factory, worker_id) -> Path:
    """A store that all tests share; they ask for few members, so little is ever trained.

    In `tox run -e gates` that of the run before them, which holds what they ask for.
    """
    if {"KLOM_GATES_JSON", "KLOM_STORE"} <= os.environ.keys():
        return Path(os.environ["KLOM_STORE"])
    of_all_workers = tmp_path_factory.getbasetemp().parent if worker_id != "master" else None
    return (of_all_workers or tmp_path_factory.getbasetemp()) / "small_store"


@pytest.fixture(autouse=True)
def own_store(monkeypatch, small_store):
    """No test touches the user's store, and none believes to be a worker of xdist."""
    monkeypatch.setenv("KLOM_STORE", str(small_store))
    for name in [n for n in os.environ if n.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)


@pytest.fixture
def cell():
    """cell(method_function_or_name, forget_set=3, members=4, **hyperparameters)."""

    def make(
        function, forget_set="forget_set_3", members=4, oracles=None, task=DIGITS, **given
    ) -> Cell:
        if isinstance(function, str):
            function = BUILT_IN[function]
        method = method_of(function.__name__, function)
        return Cell(
            task=task,
            method=method,
            hyperparameters=method.values(given, {}),
            forget_set=task.forget_set(forget_set),
            members=members,
            oracles=oracles or members,
            seed=0,
            estimator=ESTIMATORS["default"],
            device=CPU,
        )

    return make


@pytest.fixture
def measured(cell, small_store):
    """The record of a cell, from the shared store, held against these limits."""

    def run(function, limits=None, **asked):
        return measure(cell(function, **asked), Store(small_store), limits=Limits(limits or {}))

    return run


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages; what is imported from below `tmp_path` is forgotten again."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def project(pytester):
    """A user's project: one file with the test, a conftest of their own, pytest in process.

    Workers of xdist are processes all the same; with alone=True the controller is one, too.
    """
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom")

    def run(*args, conftest="", alone=False, **files):
        if conftest:
            pytester.makeconftest(conftest)
        for name, text in files.items():
            pytester.makefile(".toml", **{name: text})
        usual = ("--klom-models=4", *LIGHT)
        start = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
        return start(*usual, *args)

    return run
