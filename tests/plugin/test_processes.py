"""What only a process of its own can show: start-up, a terminal, Ctrl-C, other suites."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from helpers.processes import PYTEST, on_a_terminal, screen

pytestmark = pytest.mark.processes
ONE = ["--klom-method=ga", "--klom-forget-set=1"]


@pytest.fixture
def folder(pytester):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom")
    return pytester.path


def test_the_plugin_costs_other_suites_nothing_heavy(tmp_path):
    (tmp_path / "test_other.py").write_text(
        "import sys\n"
        "def test_other():\n"
        "    assert 'klom_bench.plugin' in sys.modules\n"
        "    assert not {'torch', 'numpy', 'sklearn', 'filelock'} & set(sys.modules)\n"
    )
    run = subprocess.run([*PYTEST, "-q"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_klom_alone_needs_no_torch():
    code = (
        "import sys, numpy as np; from klom_bench import klom, margins\n"
        "klom(np.zeros((3, 4)), np.ones((3, 4))); margins(np.ones((2, 3)), np.array([0, 1]))\n"
        "assert not {'torch', 'pytest', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("flags", [["-o", "console_output_style=classic"], ["-v"]])
def test_progress_shows_and_leaves_no_trace(folder, pytester, monkeypatch, flags):
    store = f"--klom-store={folder / 'store'}"
    asked = [*ONE, "--klom-models=12", "--klom-param=epochs=20", "--color=no", *flags, store]
    output, status = on_a_terminal(asked, folder)
    assert status == 0
    assert re.search(r"training originals and oracles \d+/24, \d+/s, \d+ s left", output), output
    assert "ga on forget_set_1 " in output
    left = screen(output)
    assert "training" not in left
    assert " s left" not in left
    monkeypatch.setenv("COLUMNS", "120")
    plain = pytester.runpytest_inprocess(*asked).stdout.str()
    assert "\033" not in plain

    def of_tests(text):
        return [line for line in text.splitlines() if line.startswith("test_mine.py")]

    assert of_tests(left) == of_tests(plain) != []


def test_progress_of_workers_shows_and_leaves_no_trace(folder, monkeypatch):
    (folder / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
    store = f"--klom-store={folder / 'store'}"
    asked = ["--klom-method=ga", "--klom-forget-set=1-2", "--klom-models=12", "-v", "-n2"]
    output, status = on_a_terminal([*asked, "--color=no", store], folder)
    assert status == 0
    assert re.search(r"gw[01] training [^;]+ \d+/\d+, \d+/s, \d+ s left", output), output
    left = screen(output)
    assert left.count(" PASSED ") == 2
    assert "training" not in left
    assert " s left" not in left
    assert not list((folder / "temporary").glob("klom-*"))


SLOW = """
import time

import pytest
import torch

from klom_bench.plugin.keys import SHOW
from klom_bench.plugin.progress import open_progress

@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr("klom_bench.cell.rounds.import_compiler", lambda: None)  # 2 s a process
    def unlearn(model, forget, retain):
        for _ in range(4):
            time.sleep(0.5)
            for weights in model.parameters():
                weights.data *= 0.9
            yield
    return unlearn

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    if SHOW in config.stash:
        config.stash[SHOW] = open_progress(config, seconds=0.2)
"""
TOLD = re.compile(r"klom: (gw\d )?(training .*|slow on forget_set_\d) \d/\d.*")


@pytest.mark.parametrize(("flags", "told"), [([], True), (["-v", "-n1"], True), (["-qq"], False)])
def test_a_log_is_told_now_and_then(project, folder, flags, told):
    result = project("--klom-method=slow", "--klom-forget-set=1", *flags, conftest=SLOW, alone=True)
    assert result.ret == 0
    lines = result.outlines
    here = [i for i, line in enumerate(lines) if TOLD.fullmatch(line)]
    assert (len(here) > 1) == told
    assert result.stdout.str().count("slow on forget_set") <= len(here)
    if flags == []:
        assert lines[here[0] - 1].rstrip() == "test_mine.py"
        assert re.fullmatch(r" {13}\. +\[100%\]", lines[here[-1] + 1])  # it goes on where it was


@pytest.mark.parametrize(
    ("environment", "colours", "escapes"),
    [({}, True, True), ({"NO_COLOR": "1"}, False, True), ({"TERM": "dumb"}, False, False)],
)
def test_colours_and_the_cursor_are_as_the_terminal_asks(
    folder, monkeypatch, environment, colours, escapes
):
    for name in ("NO_COLOR", "FORCE_COLOR", "PY_COLORS", "CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)
    asked = [*ONE, "--klom-models=2", "--klom-max=val_mean=0.1"]
    output, status = on_a_terminal(asked, folder, COLUMNS="80", **environment)
    assert status == 1
    assert "= KLOM =" in output
    assert (re.search(r"\033\[[0-9;]*m", output) is not None) == colours
    assert ("\033" in output) == escapes
    # Whoever sees no colours reads a word; pytest has room for it where there are colours.
    end = output[output.index("in words: ") :]
    assert len(re.findall(r"[:-] val_mean \S+, limit 0\.1: inconclusive", end)) == 1


def test_ctrl_c_ends_the_run_and_loses_nothing(folder, pytester):
    store = folder / "store"
    asked = ["--klom-method=ga", "--klom-models=75", f"--klom-store={store}"]
    sent = []

    def interrupt(pid, output):
        if not sent and len(list(store.rglob("sd_*.pt"))) > 30:
            os.kill(pid, signal.SIGINT)
            sent.append(time.monotonic())

    output, status = on_a_terminal(asked, folder, send=interrupt)
    assert sent
    assert time.monotonic() - sent[0] < 20
    assert status == 2
    assert "0 of 11 tests measured" in output
    assert "KeyboardInterrupt" in output
    assert "what was finished is kept, and the same command goes on" in " ".join(output.split())
    assert "fixture was not used" not in output
    kept = len(list(store.rglob("sd_*.pt")))
    assert kept % 25 == 0
    assert not list(store.rglob("*.partial"))
    again = pytester.runpytest_inprocess(*asked, "--klom-forget-set=1", "--klom-plan")
    in_store = [
        int(line.split()[-2])
        for line in again.outlines
        if "s of " in line and line.split()[-1].isdigit()
    ]
    assert sum(in_store) == kept
