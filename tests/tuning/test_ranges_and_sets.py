"""Where `klom tune` looks, and on which forget sets."""

import json
import math

import numpy as np
import pytest
import torch
from helpers.tuning import SMALL, method

from klom_bench.cli import main
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.ranges import Choice, Range
from klom_bench.report.trials import best_line
from klom_bench.tasks import DIGITS, Data, Task
from klom_bench.tuning.ranges import USUAL, range_in, ranges_of
from klom_bench.tuning.sets import tuning_task
from klom_bench.tuning.trials import Trial, Tuning


def test_no_point_is_tuned_on_that_is_gated():
    task = tuning_task(DIGITS, method("ga"))
    gated = np.concatenate([DIGITS.forget_set(name).indices for name in DIGITS.forget_sets])
    found = [task.forget_set(name).indices for name in task.forget_sets]
    assert [len(rows) for rows in found] == [50, 50, 100]
    every = np.concatenate(found)
    assert len(np.unique(every)) == 200
    assert not np.intersect1d(every, gated).size


def test_two_of_the_sets_are_neighbours():
    """Closer to each other than points drawn at random."""
    task, x = tuning_task(DIGITS, method("ga")), DIGITS.data.x_train
    spread = [
        float(torch.cdist(x[rows], x[rows]).median())
        for rows in (torch.from_numpy(task.forget_set(n).indices) for n in task.forget_sets)
    ]
    assert max(spread[1:]) < 0.85 * spread[0]


def test_classes_to_tune_on_are_others_than_the_gated_one():
    task = tuning_task(DIGITS, method("unsir"))
    labels = {int(DIGITS.data.y_train[task.forget_set(n).indices[0]]) for n in task.forget_sets}
    assert len(labels) == 3
    assert 9 not in labels
    assert all(task.is_class(task.forget_set(n)) for n in task.forget_sets)


def test_too_few_free_points_are_told():
    def data():
        x = torch.zeros(210, 3)
        return Data(x, torch.arange(210) % 2, x[:4], torch.arange(4) % 2, "")

    small = Task(
        name="small",
        architecture=DIGITS.architecture,
        load=data,
        forget_sets={"most": lambda: range(30)},
        train=DIGITS.train,
    )
    with pytest.raises(KlomError, match="180 train points of small are in no forget set, 200 are"):
        tuning_task(small, method("ga")).forget_set("tuning_1")


@pytest.mark.parametrize(
    ("text", "name", "lowest", "highest"),
    [("lr=1e-4..1", "lr", 1e-4, 1.0), ("k=1..3", "k", 1, 3), ("shift=-1..1", "shift", -1.0, 1.0)],
)
def test_ranges_are_covered(text, name, lowest, highest):
    found, where = range_in(text)
    rng = np.random.default_rng(0)
    drawn = [where.draw(rng) for _ in range(500)]
    assert found == name
    assert min(drawn) >= lowest
    assert max(drawn) <= highest
    if name == "lr":  # evenly in the logarithm
        assert np.mean(np.array(drawn) < 1e-2) == pytest.approx(0.5, abs=0.1)
    if name == "k":
        assert set(drawn) == {1, 2, 3}
        assert all(type(v) is int for v in drawn)
    if name == "shift":
        assert np.mean(drawn) == pytest.approx(0, abs=0.1)


def test_steps_are_near_and_stay_inside():
    where, rng = Range(1e-4, 1.0), np.random.default_rng(0)
    steps = np.log([where.near(1e-2, rng) for _ in range(500)]) - math.log(1e-2)
    assert np.std(steps) == pytest.approx(0.15 * math.log(1e4), rel=0.1)
    assert all(1e-4 <= where.near(1.0, rng) <= 1.0 for _ in range(50))
    assert all(where.near(50.0, rng) <= 1.0 for _ in range(20))  # a default out of range
    same = [Choice((1, 2, 3)).near(2, rng) for _ in range(300)]
    assert 0.7 < np.mean(np.array(same) == 2) < 0.9
    pairs = [Choice(((1, 2), (3,))).near([3], rng) for _ in range(50)]
    assert set(pairs) == {(1, 2), (3,)}
    assert np.mean([pair == (3,) for pair in pairs]) > 0.7


@pytest.mark.parametrize(
    "text", ["lr", "lr=", "lr=1", "lr=2..1", "lr=a..b", "lr=1..inf", "=1|2", "lr=1..2..3"]
)
def test_ranges_that_are_none(text):
    with pytest.raises(KlomError, match=r"--range must be NAME=LOW\.\.HIGH or NAME=A\|B\|C"):
        range_in(text)


def test_ranges_are_of_hyperparameters():
    for name in BUILT_IN:
        assert set(method(name).traits.tune) <= set(method(name).hyperparameters)
    assert set(ranges_of(method("ga"), {})) == set(USUAL)
    with pytest.raises(KlomError, match="--range lrr: ga has the hyperparameters lr, epochs"):
        ranges_of(method("ga"), {"lrr": Range(1, 2)})
    with pytest.raises(KlomError, match="retrain has no hyperparameters"):
        ranges_of(method("retrain"), {})


def test_ranges_are_of_the_kind_of_the_default(tmp_path, tuned):
    args = [
        "tune",
        "ga",
        *SMALL,
        "--range",
        "lr=0..1",
        "--range",
        "epochs=1..3",
        "--store",
        str(tuned[0]),
        "--output",
        str(tmp_path),
    ]
    assert main(args) == 0
    drawn = [t["hyperparameters"] for t in json.loads((tmp_path / "ga.json").read_text())["trials"]]
    assert all(type(d["epochs"]) is int for d in drawn)
    assert any(d["lr"] not in (0.0, 1.0) for d in drawn[1:])


def test_choices_at_an_end_of_their_range_are_told(tmp_path):
    ranges = {
        "lr": "0.0001..1",
        "epochs": "1..10 whole",
        "repeats": "1..10 whole",
        "share": "0.1..0.9",
        "batch_size": "32|64",
        "alpha": "1..100",
    }
    values = {"lr": 0.97, "epochs": 1, "repeats": 10, "share": 0.5, "batch_size": 32, "alpha": 1.2}
    trial = Trial(values, {"a": {"forget": 1.0}})
    tuning = Tuning({"method": "ga", "ranges": ranges}, (trial,))
    assert tuning.at_ends() == {"lr": "0.0001..1", "repeats": "1..10"}
    line = best_line(tuning, tmp_path / "ga.json", ["ga"])
    assert "  lr=0.97 lies at an end of 0.0001..1: --range lr=LOW..HIGH looks further" in line
    assert Tuning({"method": "ga", "ranges": ranges}).at_ends() == {}
