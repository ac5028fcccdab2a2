"""`klom import`, and what other commands say of a task that is not trained."""

import json
import re

import pytest
from helpers.brought import checkpoints, files_in

TASK = """
from helpers.brought import brought
task = brought()
"""


@pytest.fixture
def here(tmp_path, monkeypatch, site):
    """A folder with a pyproject.toml that names the task, and twelve checkpoints."""
    (tmp_path / "of_a_user.py").write_text(TASK)
    (tmp_path / "pyproject.toml").write_text('[tool.klom]\ntasks = ["of_a_user:task"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KLOM_STORE", str(tmp_path / "store"))
    checkpoints(tmp_path / "runs", range(12))
    return tmp_path


def test_what_it_takes_and_does_is_said(run, here):
    asked = ("import", "runs", "--task", "brought", "--as", "originals")
    code, dry, _ = run(*asked, "--dry-run")
    assert code == 0
    assert dry.splitlines() == [
        "--pattern 'run_{member}/model.pt': 12 files",
        "  run_0/model.pt is member 0",
        "  run_1/model.pt is member 1",
        "  run_11/model.pt is member 11",
        "nothing was imported: --dry-run",
    ]
    assert not (here / "store").exists()
    code, out, err = run(*asked)
    assert code == 0
    assert re.search(r"^12 members of the originals of brought were imported; right on ", out, re.M)
    assert err == ""  # in a log, progress is told after half a minute
    code, out, _ = run(*asked)
    assert (code, "12 were there already, from the same weights" in out) == (0, True)
    assert re.search(r"brought  originals +0 +12 .* imported$", run("list")[1], re.M)
    assert "  brought: 180 train points; imported\n" in run("list")[1]
    content = json.loads(run("list", "--json")[1])
    assert content["tasks"]["brought"]["recipe"] == {"imported": True}
    assert run("verify")[0] == 0
    assert run("remove", "brought", "--yes")[0] == 0


ORACLES = ("import", "runs", "--task", "brought", "--as", "oracles")
BAD = {
    "no forget set": (ORACLES, "say which with --forget-set; brought has first_ten"),
    "an unknown one": ((*ORACLES, "--forget-set", "last"), "unknown forget set 'last'"),
    "originals with one": (
        (*ORACLES[:-1], "originals", "--forget-set", "first_ten"),
        "originals have seen all train points",
    ),
    "no folder": (("import", "nowhere", *ORACLES[2:-1], "originals"), "nowhere is not there"),
    "a negative seed": ((*ORACLES, "--seed", "-1"), "--seed must not be negative"),
    "an unknown task": (
        ("import", "runs", "--task", "brough", *ORACLES[4:]),
        "did you mean brought",
    ),
    "a built-in task": (
        ("import", "runs", "--task", "digits", "--as", "originals", "--seed", "7"),
        "run_0/model.pt is no state dict of this task",
    ),
    "training": (("train", "brought"), r"models of task brought are not trained here"),
    "tuning": (("tune", "ga", "--task", "brought"), "tuning has forget sets of its own"),
}


@pytest.mark.parametrize(("asked", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_is_said_in_a_line(run, here, asked, message):
    code, _, err = run(*asked)
    assert code == 1
    assert message in err.replace("\n", " ")
    assert not (here / "store").exists() or files_in(here / "store") == {}


def test_oracles_before_and_after_their_originals(run, here):
    """These oracles were trained on all data."""
    asked = (*ORACLES, "--forget-set", "first_ten")
    checkpoints(here / "others", range(100, 112))
    code, out, _ = run("import", "others", *asked[2:])
    assert code == 0
    assert "there are no originals to hold these against" in out
    code, out, _ = run(*ORACLES[:-1], "originals")
    assert code == 0
    assert "oracles of first_ten, which are there: they look as if they had been trained on" in out
    code, out, _ = run("verify")
    assert code == 1
    assert "PROBLEM brought: oracles of first_ten" in out
    code, out, err = run("import", "others", *asked[2:], "--seed", "1")
    assert code == 0  # of another seed there are no originals
    run("remove", "brought", "--forget-set", "first_ten", "--yes")
    code, out, err = run("import", "others", *asked[2:])
    assert code == 1
    assert "these are no oracles of first_ten: they look as if" in err
    assert "Nothing was imported" in err
