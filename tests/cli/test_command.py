"""`klom`: help, exit codes, interruption."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.margin_files import ORIGINALS

from klom_bench.store.store import Store


def test_text_goes_to_terminals_that_know_no_greek(trained):
    done = subprocess.run(
        [sys.executable, "-m", "klom_bench.cli", "list", "--store", str(trained)],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "digits", "--seed", "-1"], "--seed must not be negative"),
        (["train", "digitz"], "unknown task 'digitz': did you mean digits or digits_cnn?"),
        (["train", "digits", "--forget-set", "33"], "unknown forget set 'forget_set_33'"),
        (["train", "digits", "--models", "0"], "nothing is to be trained: --models, --oracles an"),
        (["train", "digits", "--models", "-1"], "--models must be at least 0"),
        (["train", "digits", "--subsets", "-1"], "--subsets must be at least 0"),
        (["train", "digits", "digits_cnn", "--forget-set", "33"], "digits: unknown forget set 'f"),
        (["train", "digits", "-n", "0"], "-n must be a number of processes from 1, or auto; got"),
        (["download", "cifar10", "--models", "0"], "--models must be at least 1"),
        (["train", "digits", "--shard", "3/3"], "--shard must be I/N with I from 0 to N - 1"),
        (["train", "digits", "--device", "tpu"], "the device must be auto, cpu, cuda or cuda:N"),
        (["verify"], "there is no store"),
        (["score", "a.npy", "b.npy", "--estimator", "defualt"], "did you mean default?"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr(run, tmp_path, args, message):
    scored = args[0] == "score"
    code, out, err = run(*args, *([] if scored else ["--store", tmp_path / "none"]))
    assert (code, out) == (2 if scored else 1, "")
    assert message in err
    assert err.startswith(f"klom {args[0]}: ")


@pytest.mark.parametrize("args", [[], ["scor"], ["score", "a"], ["train", "digits", "--n", "x"]])
def test_wrong_usage_is_exit_code_2(run, args, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    assert "usage: klom" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score", "list", "verify", "train", "export", "download"])
def test_help_has_examples_and_exit_codes(run, command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"\n  klom {command}" in text
    assert "exit codes: 0 done; 1 it could not be done" in text


@pytest.mark.processes
def test_the_installed_command_and_a_closed_pipe(trained):
    klom = Path(sys.executable).with_name("klom")
    done = subprocess.run(
        f"{klom} list --store '{trained}' | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stdout == f"store {trained}\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.processes
def test_ctrl_c_ends_training_with_130_and_the_next_call_goes_on(tmp_path, run):
    args = [
        sys.executable,
        "-m",
        "klom_bench.cli",
        "train",
        "digits",
        "--forget-set",
        "5",
        "--models",
        "50",
        "--store",
        str(tmp_path),
    ]
    process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("sd_*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; what was finished is kept" in err
    kept = len(Store(tmp_path).held(ORIGINALS).members)
    assert kept
    few = ("--models", "26", "--oracles", "2")  # a pack is there, another and the oracles are not
    code, out, _ = run("train", "digits", "--forget-set", "5", *few, "--store", tmp_path)
    assert code == 0
    assert out.startswith("28 of 28 members are in")
