"""--klom-tuned: settings that `klom tune` found."""

import json

import pytest
from helpers.records import COUNTING, records


def tuning_file(pytester, **changes):
    content = {
        "klom_tuning": 1,
        "task": "digits",
        "method": "ga",
        "ranges": {"lr": "1e-4..1"},
        "members": 100,
        "seed": 1000000,
        "forget_sets": {"tuning_1": "ab"},
        "trials": [
            {
                "hyperparameters": {"lr": lr, "epochs": 5},
                "scores": {"tuning_1": {"forget": s, "retain": s, "val": s}},
                "examples": 0.1,
                "seconds": 1.0,
                "error": None,
            }
            for lr, s in ((0.02, 2.0), (0.07, 1.0))
        ],
    }
    (pytester.path / "ga.json").write_text(json.dumps(content | changes))


def test_tuned_settings_are_used_and_told(project, pytester):
    tuning_file(pytester)
    args = ("--klom-method=ga", "--klom-forget-set=3", "--klom-tuned=ga.json")
    project(*args, "--benchmark-json=out.json").assert_outcomes(passed=1)
    (record,) = records(pytester.path / "out.json")
    assert record["hyperparameters"]["lr"] == 0.07
    assert record["tuning"] == {
        "trials": 2,
        "objective": 1.0,
        "forget_sets": {"tuning_1": "ab"},
        "seed": 1000000,
        "members": 100,
        "overridden": [],
    }
    project(*args, "--klom-param=lr=0.5", "--benchmark-json=out.json")
    (record,) = records(pytester.path / "out.json")
    assert (record["hyperparameters"]["lr"], record["tuning"]) == (0.5, None)


def test_a_file_is_looked_for_where_pytest_was_started(project, pytester, monkeypatch):
    """And that of an ini value beside the ini file."""
    tuning_file(pytester)
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)
    args = (str(pytester.path), "--rootdir", str(pytester.path), "--klom-method=ga", "--klom-plan")
    ini = '[tool.pytest]\nklom_tuned = ["ga.json"]\n'
    assert project(*args, pyproject=ini).ret == 0
    result = project(*args, "--klom-tuned=ga.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{below / 'ga.json'}*"])
    (pytester.path / "ga.json").rename(below / "ga.json")
    assert project(*args, "--klom-tuned=ga.json").ret == 0


def test_what_is_overridden_of_tuned_settings_is_told(project, pytester):
    tuning_file(pytester, ranges={"lr": "1e-4..1", "epochs": "1..10"})
    args = ("--klom-method=ga", "--klom-forget-set=3", "--klom-tuned=ga.json")
    project(*args, "--klom-epochs=2,3", "--benchmark-json=out.json")
    (record,) = records(pytester.path / "out.json")
    assert record["hyperparameters"]["epochs"] == 3
    assert record["hyperparameters"]["lr"] == 0.07
    assert record["tuning"]["overridden"] == ["epochs"]


def test_values_of_text_keep_their_blanks(project, pytester):
    result = project(
        "--klom-method=mine",
        "--klom-param=mode=a b,ab",
        "--klom-forget-set=1",
        "-rP",
        conftest=COUNTING,
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["an epoch of a b (1, 2)"])
    result.stdout.fnmatch_lines(["an epoch of ab (1, 2)"])


@pytest.mark.parametrize("text", ["lr=0.1,,0.2", "lr=,"])
def test_empty_values(project, text):
    result = project("--klom-method=ga", f"--klom-param={text}")
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*--klom-param: a value is empty in '{text}'*"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "digits_cnn"}, "*it is of ga on digits_cnn; each file must be*"),
        ({"method": "scrub"}, "*it is of scrub on digits;*"),
        ({"klom_tuning": 2}, "*ga.json is not a file of `klom tune`*version 2*"),
        ({"trials": []}, "*no trial of ga was measured*"),
    ],
)
def test_tuning_files_that_do_not_fit(project, pytester, changes, message):
    tuning_file(pytester, **changes)
    result = project("--klom-method=ga", "--klom-tuned=ga.json")
    assert result.ret == 4
    result.stderr.fnmatch_lines([message])
    result = project("--klom-method=ga", "--klom-tuned=nowhere.json")
    result.stderr.fnmatch_lines(["*nowhere.json is not a file of `klom tune` (FileNotFoundError*"])
