"""Tests of a task whose models come from elsewhere."""

import pytest
from helpers.brought import bring, brought, checkpoints, oracles, originals
from helpers.records import records

CONFTEST = """
import pytest
from helpers.brought import brought

def pytest_klom_tasks(config):
    return [brought()]

@pytest.fixture
def asks_for_training():
    def method(model, forget, retain, *, task):
        yield from task.training(model, retain)
    return method
"""
ASKED = ("--klom-task=brought", "--klom-store=store")


@pytest.fixture
def filled(pytester):
    task = brought()
    for ensemble, first in ((originals(task), 0), (oracles(task), 50)):
        files = checkpoints(pytester.path / ensemble.role, range(first, first + 5))
        bring(pytester.path / "store", ensemble, files)


@pytest.mark.usefixtures("filled")
def test_what_needs_no_training_is_measured(project, pytester):
    methods = "--klom-method=ga,retrain,eu_k,dm_direct,asks_for_training"
    asked = (*ASKED, methods, "--klom-models=5", "--benchmark-json=out.json")
    result = project(*asked, conftest=CONFTEST)
    result.assert_outcomes(passed=1, skipped=3, failed=1)
    why = "models of task brought are not trained here (train=None): 1 test skipped"
    result.stdout.fnmatch_lines_random(
        [
            f"n/a: retrain trains models anew, and {why}",
            f"n/a: eu_k trains models anew, and {why}",
            f"n/a: dm_direct needs models on random halves, and {why}",
            "*models of task brought are not trained here (train=None), and this was to train one",
        ]
    )
    (record,) = records(pytester.path / "out.json")
    assert record["seconds"]["unlearn"] > 0
    assert record["seconds"]["retrain"] is None
    assert record["relative_cost"] == {"time": None, "examples": None}


@pytest.mark.usefixtures("filled")
def test_what_lacks_is_said_with_the_command_that_brings_it(project, pytester):
    store = pytester.path / "store"
    command = "klom import FOLDER --task brought --as"
    result = project(*ASKED, "--klom-method=ga", "--klom-models=6", conftest=CONFTEST)
    result.assert_outcomes(failed=1)
    text = " ".join(result.outlines)
    assert f"`{command} originals --store {store}` brings more, or ask for 5" in text
    assert f"`{command} oracles --forget-set first_ten --store {store}` brings more" in text
    result = project(*ASKED, "--klom-method=ga,dmm", "--klom-seed=3", "--klom-plan")
    text = " ".join(result.outlines)
    assert f"`{command} originals --seed 3 --store {store}` brings them" in text
    assert "random halves" not in text


@pytest.mark.usefixtures("filled")
def test_oracles_of_later_measurements_are_held_against_originals(project, pytester):
    """These were trained on all data, which is not seen before there are ten a side."""
    task, store = brought(), pytester.path / "store"
    for ensemble, first in ((oracles(task), 55), (originals(task), 5)):
        more = checkpoints(pytester.path / ensemble.role, range(first, first + 5))
        if ensemble.role == "oracle":
            (store / "full_models").rename(pytester.path / "away")
        bring(store, ensemble, more)
        if ensemble.role == "oracle":
            (pytester.path / "away").rename(store / "full_models")
    result = project(*ASKED, "--klom-method=ga", "--klom-models=10", conftest=CONFTEST)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*the imported oracles of first_ten cannot be used: they look as if *"]
    )


def test_conformance_has_models_of_its_own(project, pytester):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_conformance")
    result = project(*ASKED, "--klom-method=ga,eu_k", conftest=CONFTEST)
    result.assert_outcomes(passed=1, skipped=1)
