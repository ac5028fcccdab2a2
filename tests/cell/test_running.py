"""klom_bench.run: what pytest measures, without pytest."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.packages import METHOD, TASK
from helpers.records import records

import klom_bench
from klom_bench import KlomError, Record, run, table
from klom_bench.tasks import DIGITS

SMALL = {"forget_sets": 3, "models": 4}


def halves(model, forget, retain, *, by=0.5):
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(by)
    yield


def test_it_measures_what_pytest_measures(project, pytester, small_store):
    asked = ("--klom-method=ga,unsir", "--klom-param=ga.lr=0.1,0.3", "--klom-forget-set=3,1")
    project(*asked, "--klom-max=val_mean=11", "--benchmark-json=out.json").assert_outcomes(
        passed=4, skipped=2
    )
    limits, params = {"val_mean": 11}, {"ga.lr": [0.1, 0.3]}
    found = run(
        "digits", ["ga", "unsir"], forget_sets=["3", "1"], params=params, models=4,
        limits=limits, store=small_store,
    )  # fmt: skip
    expected = [Record.from_json(content) for content in records(pytester.path / "out.json")]
    mine = [record.without_points() for record in found if not record.unfit]
    times = ("seconds", "relative_cost")
    for record, other in zip(mine, expected, strict=True):
        assert record.seconds.keys() == other.seconds.keys()
        assert record.relative_cost["examples"] == other.relative_cost["examples"]
        a, b = (r.to_json() | dict.fromkeys(times) for r in (record, other))
        assert a == b
    assert [(r.forget_set, r.method, r.setting) for r in found] == [
        (name, method, setting)
        for name in ("forget_set_3", "forget_set_1")
        for method, setting in (("ga", "lr=0.1"), ("ga", "lr=0.3"), ("unsir", ""))
    ]
    assert found[2].unfit.startswith("unsir unlearns whole classes only")


def test_tasks_methods_and_functions_may_be_given_as_they_are(measured):
    for given in (halves, klom_bench.method()(halves), [halves]):
        (record,) = run(DIGITS, given, params={"by": np.float64(0.25)}, **SMALL)
        assert (record.method, record.hyperparameters) == ("halves", {"by": 0.25})
        np.testing.assert_array_equal(record.points, measured(halves, by=0.25).points)
    few = {name: DIGITS.forget_sets[name] for name in ("forget_set_1", "forget_set_3")}
    found = run(replace(DIGITS, forget_sets=few), "do_nothing", models=4)
    assert [record.forget_set for record in found] == [*few]  # all there are


@pytest.mark.parametrize("given", [[3, 1, 7], np.array([3, 1, 7]), torch.tensor([3, 1, 7])])
def test_forget_sets_may_be_numbers(given, small_store):
    task = replace(DIGITS, forget_sets={"three_numbers": given})
    (record,) = run(task, "ga", models=2, store=small_store)
    assert record.counts["forget"] == 3


def test_own_ones_are_found_as_pyproject_names_them(tmp_path, monkeypatch, site):
    (tmp_path / "theirs.py").write_text(TASK + METHOD)
    text = '[tool.klom]\ntasks = ["theirs:blobs"]\nmethods = ["theirs:halves"]\n'
    (tmp_path / "pyproject.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    (record,) = run("blobs", "halves", models=2, store="a store")
    assert (record.task, record.forget_set) == ("blobs", "first_ten")
    assert (tmp_path / "a store" / "full_models").is_dir()


def test_the_first_error_is_raised_as_it_is():
    def broken(model, forget, retain):
        raise ZeroDivisionError("mine")
        yield

    with pytest.raises(ZeroDivisionError, match="mine"):
        run("digits", [broken, "do_nothing"], **SMALL)


def another_one():
    def halves(model, forget, retain):
        yield

    return halves


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"task": "digit"}, "unknown task 'digit': did you mean digits"),
        ({"methods": "gaa"}, "unknown method 'gaa'"),
        ({"methods": []}, "no method is given"),
        ({"methods": [halves, another_one()]}, "two methods are named 'halves': give functions"),
        ({"methods": lambda model, forget: None}, "it needs three positional ones"),
        ({"methods": [3]}, "3 has no name: give a function, or a name of a method"),
        ({"forget_sets": 33}, "unknown forget set 'forget_set_33'"),
        ({"forget_sets": []}, "forget_sets is empty: leave it out for all"),
        ({"params": {"lrr": 1}}, "unknown hyperparameter 'lrr'"),
        (
            {"params": {"scrub.lr": 1}},
            "params scrub.lr=1: 'scrub' is not among the methods selected",
        ),
        ({"params": {"lr": []}}, "params: there is no value for lr"),
        ({"models": 1}, "models is 1: KLOM compares distributions"),
        ({"oracles": 1}, "oracles is 1: KLOM compares distributions"),
        ({"seed": -1}, "seed must not be negative"),
        ({"estimator": "mine"}, "unknown estimator 'mine'"),
        ({"limits": [1]}, "limits must be metrics with their limits"),
        ({"limits": {"val_p96": 1}}, "limits: unknown limit 'val_p96'"),
        ({"limits": {"val_excess": 1}}, "val_excess needs 5 models and oracles at least, not 4"),
        ({"device": "tpu"}, "tpu"),
    ],
    ids=lambda of: of if isinstance(of, str) else "-".join(of),
)
def test_what_cannot_be_is_refused_before_anything_is_trained(asked, message, tmp_path):
    usual = {"task": "digits", "methods": "ga", "store": tmp_path / "store", **SMALL}
    with pytest.raises(KlomError, match=message):
        run(**usual | asked)
    assert not list(tmp_path.rglob("*.pt"))


def test_a_store_that_cannot_be_is_told_of(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KlomError, match=r"cannot be made .*: choose another folder with store"):
        run("digits", "ga", store=tmp_path / "file" / "below", **SMALL)


def test_the_table_is_that_of_pytest(project):
    found = run("digits", ["ga", "unsir"], **SMALL)
    asked = ("--klom-method=ga,unsir", "--klom-forget-set=3")
    lines = project(*asked).outlines
    mine = table(found).splitlines()
    start = lines.index(mine[0])
    without_times = [" ".join(line.split()[:10]) for line in mine[:11]]
    assert without_times == [" ".join(line.split()[:10]) for line in lines[start : start + 11]]
    assert "n/a" in table([found[1]])
    with pytest.raises(KlomError, match="there is no record"):
        table([])
    json.dumps([record.to_json() for record in found])
