"""`klom tune`: sets apart, equal budgets, every trial written, resumed where it stopped."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from klom_bench.cli import main
from klom_bench.errors import KlomError
from klom_bench.methods import BUILT_IN
from klom_bench.methods.ranges import Choice, Range
from klom_bench.tasks import DIGITS, Data, Task
from klom_bench.tuning.ranges import USUAL, range_in, ranges_of
from klom_bench.tuning.sets import tuning_task
from klom_bench.tuning.trials import load

SMALL = ("--models", "4", "--trials", "4")


def method(name):
    return BUILT_IN[name]


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
        "small", "SMALL", DIGITS.architecture, DIGITS.recipe, data, 210, {"most": lambda: range(30)}
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


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A store, and the file of four trials of ga."""
    root = tmp_path_factory.mktemp("tuning")
    assert main(["tune", "ga", *SMALL, "--store", str(root)]) == 0
    return root, root / "tuning" / "digits" / "ga.json"


def test_every_trial_is_written_down(tuned):
    content = json.loads(tuned[1].read_text())
    trials = content["trials"]
    assert len(trials) == 4
    assert trials[0]["hyperparameters"]["lr"] == 0.01  # the method's own default, not the task's
    for trial in trials:
        assert set(trial["scores"]) == {"tuning_1", "tuning_2", "tuning_3"}
        every = [v for scores in trial["scores"].values() for v in scores.values()]
        assert trial["objective"] == pytest.approx(np.mean(every), abs=1e-4)
        assert 0 < trial["examples"] < 1
    best = min(trials, key=lambda trial: trial["objective"])
    assert content["objective"] == best["objective"]
    assert content["chosen"] == {n: best["hyperparameters"][n] for n in USUAL}
    assert content["ranges"]["lr"] == "0.0001..1"
    assert load(tuned[1]).chosen() == content["chosen"]


def test_originals_and_oracles_are_of_another_seed(tuned):
    root, _ = tuned
    assert not (root / "full_models").exists()
    assert {p.name for p in (root / "seed_1000000" / "oracles" / "DIGITS").iterdir()} == {
        "tuning_1",
        "tuning_2",
        "tuning_3",
    }


def test_the_same_command_measures_nothing_twice(tuned, capsys):
    root, path = tuned
    content = json.loads(path.read_text())
    content["trials"][1]["scores"]["tuning_1"]["val"] = 7.77
    path.write_text(json.dumps(content))
    assert main(["tune", "ga", *SMALL, "--store", str(root)]) == 0
    assert json.loads(path.read_text())["trials"][1]["scores"]["tuning_1"]["val"] == 7.77
    assert "pytest --klom-method=ga --klom-tuned=" in capsys.readouterr().out
    assert main(["tune", "ga", "--models", "4", "--trials", "2", "--store", str(root)]) == 0
    assert len(json.loads(path.read_text())["trials"]) == 4  # none is lost


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--range", "lr=1e-3..1e-2"], "ranges"),
        (["--models", "3"], "members"),
        (["--seed", "1"], "seed"),
    ],
)
def test_trials_of_something_else_are_left_alone(tuned, capsys, args, what):
    root, path = tuned
    before = path.read_bytes()
    assert main(["tune", "ga", *SMALL, *args, "--store", str(root)]) == 1
    assert re.search(
        rf"has trials of something else \(.*{what}.* differ\)", capsys.readouterr().err
    )
    assert path.read_bytes() == before


def test_trials_of_other_code_are_no_trials(tmp_path, tuned, capsys):
    file = tmp_path / "mine.py"
    text = "def unlearn(model, forget, retain, *, lr=0.5):\n    model.network[0].weight.data.mul_({})\n    yield\n"
    args = ["tune", f"{file}:unlearn", *SMALL, "--store", str(tuned[0]), "--output", str(tmp_path)]
    file.write_text(text.format("1 - lr / 4"))
    assert main(args) == 0
    assert main(args) == 0
    file.write_text(text.format("1 + lr / 4"))
    assert main(args) == 1
    assert "(code_sha256 differ)" in capsys.readouterr().err


def test_a_store_that_was_tuned_on_is_sound(tuned, capsys):
    assert main(["verify", "--store", str(tuned[0])]) == 0
    out = capsys.readouterr().out
    assert "oracles of tuning_3" in out


def test_oracles_that_lack_a_class_raise_no_alarm(tmp_path, capsys):
    args = ["--store", str(tmp_path), "--models", "6"]
    assert main(["train", "digits", "--forget-set", "class_9", *args]) == 0
    assert main(["verify", "--store", str(tmp_path)]) == 0
    assert "hardly go with" not in capsys.readouterr().out


def test_settings_are_checked_before_they_are_tried(tmp_path, tuned, capsys):
    args = ["tune", "ga", *SMALL, "--store", str(tuned[0]), "--output", str(tmp_path / "checked")]
    for given, message in (
        ("optimizer=sgdd|adm", "unknown optimizer"),
        ("batch_size=32|small", "batch_size must be of type int"),
    ):
        assert main([*args, "--range", given]) == 1
        assert message in capsys.readouterr().err
    assert (
        main([*args, "--range", "freeze_batchnorm=True|False", "--range", "max_norm=1e-3..1"]) == 0
    )
    trials = json.loads((tmp_path / "checked" / "ga.json").read_text())["trials"]
    assert {type(t["hyperparameters"]["freeze_batchnorm"]) for t in trials} == {bool}


def test_no_setting_is_tried_twice(tmp_path, tuned):
    args = ["tune", "ga", "--models", "4", "--trials", "8", "--store", str(tuned[0])]
    few = ["--range", "lr=0.1|0.2", "--range", "epochs=1|2", "--range", "batch_size=32|64"]
    assert main([*args, *few, "--output", str(tmp_path)]) == 0
    trials = json.loads((tmp_path / "ga.json").read_text())["trials"]
    tried = [json.dumps(t["hyperparameters"]) for t in trials]
    assert len(set(tried)) == 8


def test_a_method_in_a_file(tmp_path, tuned, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "from helper import scale\n"
        "def unlearn(model, forget, retain, *, strength=0.5, kind='a'):\n"
        "    if strength > 2:\n"
        "        raise ValueError('too strong')\n"
        "    with torch.no_grad():\n"
        "        for p in model.parameters():\n"
        "            p.mul_(scale(strength))\n"
        "    yield\n"
    )
    (tmp_path / "helper.py").write_text("def scale(x):\n    return 1 - x / 4\n")
    args = ["tune", f"{file}:unlearn", *SMALL, "--store", str(tuned[0]), "--output", str(tmp_path)]
    assert main(args) == 1
    assert "unlearn has nothing to tune: say what with --range" in capsys.readouterr().err
    assert main([*args, "--range", "strength=0.01..1", "--range", "kind=a|b"]) == 0
    content = json.loads((tmp_path / "unlearn.json").read_text())
    assert set(content["chosen"]) == {"strength", "kind"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gaa", "unknown method 'gaa': did you mean ga"),
        ("nowhere.py:f", "there is no file nowhere.py"),
        ("{}/bad.py:f", "bad.py cannot be imported: ZeroDivisionError"),
        ("{}/good.py:f", "good.py has no function 'f'"),
        ("ct", "ct needs conv layers, and models of digits have none"),
    ],
)
def test_methods_that_cannot_be_tuned(tmp_path, capsys, name, message):
    (tmp_path / "bad.py").write_text("1 / 0")
    (tmp_path / "good.py").write_text("x = 1")
    assert main(["tune", name.format(tmp_path), "--store", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_setting_that_fails_is_a_trial_too(tmp_path, tuned, capsys):
    args = [
        "tune",
        "ga",
        *SMALL,
        "--range",
        "lr=1e-2..1e32",
        "--store",
        str(tuned[0]),
        "--output",
        str(tmp_path),
    ]
    assert main(args) == 0  # the first trial has the default
    content = json.loads((tmp_path / "ga.json").read_text())
    failed = [t for t in content["trials"] if t["error"] is not None]
    assert failed
    assert all("diverged" in t["error"] for t in failed)
    assert content["chosen"]["lr"] < 1e3
    assert "failed: ga diverged" in capsys.readouterr().out


def test_a_method_that_raises_ends_a_trial_and_not_the_run(tmp_path, tuned, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "def unlearn(model, forget, retain, *, lr):\n"
        "    if lr > 0.1:\n"
        "        raise RuntimeError('too much')\n"
        "    model.network[0].weight.data.mul_(1 - lr)\n"
        "    yield\n"
    )
    args = [
        "tune",
        f"{file}:unlearn",
        "--models",
        "4",
        "--trials",
        "8",
        "--store",
        str(tuned[0]),
        "--output",
        str(tmp_path),
        "--range",
        "lr=1e-2..1",
    ]
    assert main(args) == 0
    content = json.loads((tmp_path / "unlearn.json").read_text())
    assert len(content["trials"]) == 8
    assert {t["error"] for t in content["trials"]} == {None, "RuntimeError: too much"}
    assert content["chosen"]["lr"] <= 0.1
    assert "with a fixture 'unlearn' that returns it" in capsys.readouterr().out


def test_more_trials_are_no_more_than_asked_for(tmp_path, tuned):
    args = ["tune", "ga", "--models", "4", "--store", str(tuned[0]), "--output", str(tmp_path)]
    for trials in (3, 4, 7):
        assert main([*args, "--trials", str(trials)]) == 0
        assert len(json.loads((tmp_path / "ga.json").read_text())["trials"]) == trials


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


def test_a_chosen_tuple_can_be_used(tmp_path, tuned):
    args = [
        "tune",
        "scrub",
        *SMALL,
        "--range",
        "decay_epochs=(1, 2)|(3,)",
        "--store",
        str(tuned[0]),
        "--output",
        str(tmp_path),
    ]
    assert main(args) == 0
    chosen = load(tmp_path / "scrub.json").chosen()
    settings = method("scrub").values({}, chosen)
    assert settings["decay_epochs"] in ((1, 2), (3,))


def test_a_killed_run_goes_on_where_it_stopped(tmp_path, tuned):
    command = [
        sys.executable,
        "-m",
        "klom_bench.cli",
        "tune",
        "finetune",
        "--models",
        "4",
        "--trials",
        "12",
        "--store",
        str(tuned[0]),
        "--output",
        str(tmp_path),
    ]
    path = tmp_path / "finetune.json"
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not path.exists() or len(load(path).trials) < 3:
        assert time.monotonic() < end, run.communicate()
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    before = json.loads(path.read_text())["trials"]
    assert 3 <= len(before) < 12
    subprocess.run(command, check=True, capture_output=True)
    after = json.loads(path.read_text())["trials"]
    assert len(after) == 12
    assert after[: len(before)] == before  # times included: not measured again
