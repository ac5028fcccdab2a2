"""A task of one's own that changes between runs, as it does while it is being written."""

import pytest

CONFTEST = """
import pytest
import torch
from torch import nn
from klom_bench.ensemble.training import Recipe
from klom_bench.tasks import Data, Task

def load():
    x, y = torch.randn(300, 20, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    x[range(300), y] += 3
    return Data(x[:200], {labels}[:200], x[200:], y[200:])

def net():
    return nn.Sequential(nn.Linear(20, 16), nn.{act}(), nn.Dropout({p}), nn.Linear(16, 3))

def pytest_klom_tasks(config):
    sets = {{"first_ten": lambda: range(10)}}
    return [Task(name="blobs", architecture=net, load=load, forget_sets=sets, train=Recipe(3, 32, 0.1))]
"""
BLOBS = ("--klom-task=blobs", "--klom-method=ga", "--klom-store=own")


def conftest(labels="y", act="ReLU", p=0.2):
    return CONFTEST.format(labels=labels, act=act, p=p)


def test_a_change_is_an_error_until_it_is_said_what_to_do(project, pytester):
    change, named = {"p": 0.9}, "2 is Dropout(p=0.2, inplace=False) there, Dropout(p=0.9"
    project(*BLOBS, conftest=conftest()).assert_outcomes(passed=1)
    result = project(*BLOBS, conftest=conftest(**change))
    result.assert_outcomes(failed=1)
    assert named in result.stdout.str()
    assert "--klom-stale=retrain moves it aside" in result.stdout.str()
    result.stdout.fnmatch_lines(["0 of 1 tests measured"])
    planned = project(*BLOBS, "--klom-plan", conftest=conftest(**change))
    assert planned.ret == 4
    assert named in planned.stderr.str()
    planned = project(*BLOBS, "--klom-plan", "--klom-stale=retrain", conftest=conftest(**change))
    planned.stdout.fnmatch_lines(["originals of blobs * 4 * 0 * 4", "stale, so it would be moved*"])
    assert not (pytester.path / "own" / "stale").exists()
    result = project(*BLOBS, "--klom-stale=retrain", conftest=conftest(**change))
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("It was moved to") == 2  # originals and oracles
    assert (pytester.path / "own/stale/1/oracles/BLOBS/first_ten/manifest.json").exists()


@pytest.mark.processes
def test_workers_move_a_stale_ensemble_aside_once_and_score_as_a_serial_run(project, pytester):
    """With dropout, bit for bit."""
    project(*BLOBS, conftest=conftest()).assert_outcomes(passed=1)
    changed = conftest(act="GELU").replace(
        '{"first_ten": lambda: range(10)}',
        "{f's{n}': (lambda n=n: range(n, n + 10)) for n in range(4)}",
    )
    result = project(
        *BLOBS, "--klom-stale=retrain", "-n", "2", "--klom-save-baseline=b.json", conftest=changed
    )
    result.assert_outcomes(passed=4)
    assert result.stdout.str().count("It was moved to") == 1
    aside = pytester.path / "own" / "stale"
    assert [p.name for p in aside.iterdir() if p.name.isdigit()] == ["1"]
    serial = ("--klom-store=other", "--klom-save-baseline=serial.json")
    project(*BLOBS, *serial, conftest=changed).assert_outcomes(passed=4)
    one, two = (pytester.path / name for name in ("b.json", "serial.json"))
    assert one.read_text() == two.read_text()


def test_stale_is_error_or_retrain(project):
    result = project(*BLOBS, "--klom-stale=ignore", conftest=conftest())
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--klom-stale must be error or retrain, got 'ignore'"])
