"""`klom train -n`: processes that train together, are interrupted, and are killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.margin_files import CPU, ORACLES, ORIGINALS
from helpers.processes import WRITES_DOWN, wait_for, written

from klom_bench.store.store import Store

pytestmark = pytest.mark.processes

TRAIN = ["train", "digits", "--forget-set", "5", "-n", "2"]


def children(pid):
    """Processes of this parent that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z" and int(parent) == pid:
            found.append(int(stat.parent.name))
    return found


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def at_work(tmp_path):
    """A command that trains with two processes, and these, once the first members are there."""
    started = []

    def start(models):
        args = [sys.executable, "-m", "klom_bench.cli", *TRAIN, "--store", str(tmp_path)]
        command = subprocess.Popen(
            [*args, "--models", str(models)],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(command.pid)
        wait_for(lambda: list(tmp_path.rglob("sd_*")))
        both = children(command.pid)
        started.extend(both)
        assert len(both) == 2
        return command, both

    yield start
    for pid in filter(runs, started):
        os.kill(pid, signal.SIGKILL)


def test_two_processes_train_each_member_once_to_the_same_bits(run, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(WRITES_DOWN)
    monkeypatch.setenv("WRITE_DOWN", "1")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    together, alone = Store(tmp_path / "together"), Store(tmp_path / "alone")
    code, out, _ = run(*TRAIN, "--models", "26", "--oracles", "2", "--store", together.root)
    assert (code, out) == (0, f"28 of 28 members are in {together.root}\n")
    checkpoints = written(tmp_path, together.root)
    assert len(checkpoints) == len({*checkpoints}) == 28
    alone.complete([(ORIGINALS, 26), (ORACLES, 2)], CPU)
    for ensemble, n in ((ORIGINALS, 26), (ORACLES, 2)):
        mine, theirs = (store.held(ensemble).margins(n, CPU) for store in (together, alone))
        assert np.array_equal(mine, theirs)


def test_an_error_is_said_once(run, store):
    manifest = store / "full_models/DIGITS/manifest.json"
    manifest.write_text(manifest.read_text()[:-9])
    code, out, err = run(*TRAIN, "--models", "12", "--store", store)
    assert (code, out) == (1, "")
    assert err.count("klom train: ") == err.count(f"{manifest} cannot be read") == 1


def test_ctrl_c_ends_all_and_keeps_what_was_finished(at_work, tmp_path):
    """As a terminal does it: every process of the group gets the signal."""
    command, both = at_work(1000)
    os.killpg(command.pid, signal.SIGINT)
    _, err = command.communicate(timeout=60)
    assert command.returncode == 130
    assert err.splitlines() == ["", "klom train: interrupted; what was finished is kept"]
    assert not any(map(runs, both))
    assert Store(tmp_path).held(ORIGINALS).members
    assert not list(tmp_path.rglob("*.partial"))


def test_what_a_killed_process_was_at_is_trained_by_the_other(at_work, tmp_path):
    command, both = at_work(30)
    os.kill(both[0], signal.SIGKILL)
    _, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    assert "a process was ended before it was done (Killed" in err
    assert [Store(tmp_path).held(e).lacks(30) for e in (ORIGINALS, ORACLES)] == [0, 0]


def test_processes_end_with_the_one_that_started_them(at_work):
    command, both = at_work(1000)
    command.kill()
    _, err = command.communicate(timeout=60)
    wait_for(lambda: not any(map(runs, both)))
    assert "Traceback" not in err
