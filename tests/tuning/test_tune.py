"""`klom tune`."""

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
from helpers.tuning import SMALL, method

from klom_bench.cli import main
from klom_bench.tuning.ranges import USUAL
from klom_bench.tuning.trials import load


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
        ("ct", "ct needs 2-d conv layers, and models of digits have none"),
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


def test_the_second_half_of_the_trials_is_near_the_best_of_the_first(tmp_path, tuned):
    """Nearer than draws from the whole range: steps are a part of it."""
    args = ["tune", "ga", "--models", "4", "--store", str(tuned[0]), "--output", str(tmp_path)]
    assert main([*args, "--trials", "12", "--range", "lr=1e-7..1"]) == 0
    trials = load(tmp_path / "ga.json").trials
    steps = []
    for number in range(6, 12):
        best = min(trials[:number], key=lambda trial: trial.objective)
        steps.append(math.log10(trials[number].hyperparameters["lr"] / best.hyperparameters["lr"]))
    assert np.mean(np.abs(steps)) < 1.1, steps  # by design .8; from the whole range more


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


@pytest.mark.processes
def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    command = [
        sys.executable,
        "-m",
        "klom_bench.cli",
        "tune",
        "ga",
        "--models",
        "4",
        "--trials",
        "8",
        "--store",
        str(tmp_path / "store"),
        "--output",
        str(tmp_path),
    ]
    path = tmp_path / "ga.json"
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    end = time.monotonic() + 60
    while not path.exists() or len(load(path).trials) < 3:
        assert time.monotonic() < end, run.communicate()
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    before = json.loads(path.read_text())["trials"]
    assert 3 <= len(before) < 8
    assert main(command[3:]) == 0
    after = json.loads(path.read_text())["trials"]
    assert len(after) == 8
    assert after[: len(before)] == before  # times included: not measured again
