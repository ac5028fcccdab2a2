"""Runs that pytest-xdist shares out, against serial ones."""

import json
import re
import subprocess
import sys

import pytest
import torch
from helpers.processes import WRITES_DOWN, benchmarks, written

pytestmark = pytest.mark.processes
SETS = ("--klom-method=ga,do_nothing", "--klom-forget-set=1-2")


TESTS = 4


def table(result):
    """The scores and accuracies of the KLOM table."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if "= KLOM =" in line)
    assert sum("= KLOM =" in line for line in lines) == 1
    rows = [line for line in lines[start:] if line.startswith(("forget_set", "     "))]
    return [re.split(r" +\d+\.\d\d +\d+\.\d%", row)[0] for row in rows]


@pytest.fixture
def serial(project, pytester):
    result = project(*SETS, "-n0", "--benchmark-json=serial.json")
    result.assert_outcomes(passed=TESTS)
    return benchmarks(pytester.path / "serial.json"), table(result)


THE_SECOND_FIRST = """
    import os, pathlib, time

    WORKER, ENDED = os.environ.get("PYTEST_XDIST_WORKER"), pathlib.Path("gw1 ended a test")

    def pytest_runtest_setup(item):
        end = time.monotonic() + 60
        while WORKER == "gw0" and not ENDED.exists() and time.monotonic() < end:
            time.sleep(0.05)

    def pytest_runtest_logfinish(nodeid):
        if WORKER == "gw1":
            ENDED.touch()
"""


def test_workers_give_what_a_serial_run_gives(project, pytester, serial):
    asked = (*SETS, "-n2", "--benchmark-json=out.json")
    result = project(*asked, alone=True, conftest=THE_SECOND_FIRST)
    result.assert_outcomes(passed=TESTS)
    assert "automatically disabled" not in result.stdout.str() + result.stderr.str()
    before, rows = serial
    assert "worker" not in before[0]["extra_info"]
    after = benchmarks(pytester.path / "out.json")
    assert [b["fullname"] for b in after] == [b["fullname"] for b in before]
    for old, new in zip(before, after, strict=True):
        assert new["extra_info"]["worker"] in ("gw0", "gw1")
        assert new["params"] == old["params"]
        assert new["stats"].keys() == old["stats"].keys()
        measured = new["extra_info"]["klom"]["seconds"]["unlearn"]
        assert new["stats"]["total"] == pytest.approx(measured, rel=0.2, abs=0.01)
        for time in ("seconds", "relative_cost"):
            del old["extra_info"]["klom"][time], new["extra_info"]["klom"][time]
        assert new["extra_info"]["klom"] == old["extra_info"]["klom"]
    assert table(result) == rows
    result.stdout.fnmatch_lines([f"{TESTS} of {TESTS} tests measured: {TESTS} no gate"])
    assert sum("benchmark: " in line and " tests" in line for line in result.outlines) <= 1
    machine = json.loads((pytester.path / "out.json").read_text())["machine_info"]
    assert machine["workers"] == 2
    assert machine["torch"].startswith("2.")
    assert {"gpu", "cuda", "workers_per_gpu"} <= machine.keys()


def test_saved_runs_are_compared_serial_or_not(project, pytester):
    asked = ("--klom-method=ga", "--klom-forget-set=1")
    for workers in ([], ["-n1"]):
        assert project(*asked, *workers, "--benchmark-autosave").ret == 0
    saved = sorted((pytester.path / ".benchmarks").rglob("*.json"))
    assert [len(benchmarks(path)) for path in saved] == [1, 1]
    compare = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest_benchmark",
            "compare",
            "0001",
            "0002",
            "--group-by=param:klom_forget_set",
        ],
        cwd=pytester.path,
        capture_output=True,
        text=True,
    )
    assert compare.returncode == 0, compare.stderr
    assert "klom_forget_set=forget_set_1" in compare.stdout
    # Against a past that was a thousand times as fast, or as slow.
    for path, factor in zip(saved, (1e-3, 1e3), strict=True):
        content = json.loads(path.read_text())
        stats = content["benchmarks"][0]["stats"]
        for name in ("min", "max", "mean", "median"):
            stats[name] *= factor
        path.write_text(json.dumps(content))
    for number, workers, status in (("0001", [], 1), ("0001", ["-n1"], 1), ("0002", [], 0)):
        against = f"--benchmark-compare={number}"
        result = project(*asked, *workers, against, "--benchmark-compare-fail=mean:100%")
        text = result.stdout.str() + result.stderr.str()
        assert result.ret == status, text
        assert "Traceback" not in text
        assert ("Performance has regressed" in text) == bool(status)
        result.stdout.fnmatch_lines(["1 of 1 tests measured*", "*1 passed*"])


def test_what_pytest_benchmark_is_told_holds_for_workers(project, pytester):
    asked = ("--klom-method=ga", "--klom-forget-set=1", "-n1", "--benchmark-json=out.json")
    project(*asked, "--benchmark-disable").assert_outcomes(passed=1)
    assert not (pytester.path / "out.json").exists()
    both = pytester.runpytest_inprocess(*asked, "--benchmark-disable", "--benchmark-only")
    assert both.ret == 4
    assert "--benchmark-only and --benchmark-disable" in both.stderr.str()
    skipped = project(*asked, "--benchmark-skip")
    skipped.assert_outcomes(skipped=1)
    assert skipped.ret == 1
    skipped.stdout.fnmatch_lines(["0 of 1 tests measured"])


def test_a_failed_gate_is_recorded_once_and_a_method_that_raises_is_not(project, pytester):
    pytester.makepyfile(
        test_parts="""
        def test_parts(klom_cell, klom, subtests):
            record = klom.measure(klom_cell)
            for split, scores in record.scores.items():
                with subtests.test(split=split):
                    assert scores.p95 >= 0
        """
    )
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def unlearn(model, forget, retain):
                raise ZeroDivisionError("of mine")
                yield
            return unlearn
    """
    result = project(
        "-n1",
        "--klom-method=ga,mine",
        "--klom-forget-set=1",
        "--klom-max=val_mean=11",
        "--klom-max=forget_p95=0.1",
        "--benchmark-json=out.json",
        "--benchmark-only",
        conftest=conftest,
    )
    gated, in_parts = benchmarks(pytester.path / "out.json")
    assert gated["extra_info"]["klom"]["verdict"] == "inconclusive"
    assert "test_parts" in in_parts["fullname"]
    result.stdout.fnmatch_lines(["*ZeroDivisionError: of mine*", "2 of 4 tests measured*"])


def test_other_suites_see_stock_behaviour(project, pytester):
    pytester.makepyfile(test_other="def test_other(benchmark): benchmark(lambda: None)")
    result = project("-n1", "--benchmark-json=out.json", "test_other.py", alone=True)
    result.assert_outcomes(passed=1)
    assert "automatically disabled" in result.stdout.str() + result.stderr.str()
    assert not (pytester.path / "out.json").exists()


TELLS_PLACE = """
    import json, os, pathlib, pytest, time, torch

    @pytest.fixture
    def mine(monkeypatch):
        monkeypatch.setattr("klom_bench.cell.rounds.import_compiler", lambda: None)  # 2 s a process
        def unlearn(model, forget, retain):
            names = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTEST_XDIST_WORKER"
            found = {{name: os.environ.get(name) for name in names}}
            with open("places", "a") as file:
                file.write(json.dumps(found) + "\\n")
            if {die} and found["PYTEST_XDIST_WORKER"] == "gw1":
                os.kill(os.getpid(), 9)
            end = time.monotonic() + 60
            while {die} and "gw2" not in pathlib.Path("places").read_text():
                assert time.monotonic() < end, "no replacement came"
                time.sleep(0.05)
            with torch.no_grad():
                for p in model.parameters():
                    p *= 0.9
            yield
        return unlearn
"""


def places(pytester):
    return [json.loads(line) for line in (pytester.path / "places").read_text().splitlines()]


def test_auto_is_a_worker_a_gpu_of_the_callers_and_a_replacement_keeps_it(
    project, pytester, monkeypatch
):
    """The count of GPUs is made up; everything else is as with real ones."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, 7")
    conftest = TELLS_PLACE.format(die=True)
    asked = ("--klom-method=mine", "--klom-forget-set=1-4", "--klom-device=auto")
    result = project("-n", "auto", *asked, conftest=conftest)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["klom: mine on digits*2 workers on 2 GPUs*", "3 of 4 tests *"])
    found = {(p["PYTEST_XDIST_WORKER"], p["CUDA_VISIBLE_DEVICES"]) for p in places(pytester)}
    assert found == {("gw0", "GPU-aa"), ("gw1", "7"), ("gw2", "7")}


def test_workers_share_gpus_and_threads(project, pytester, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    conftest = TELLS_PLACE.format(die=False)
    result = project("-n3", "--klom-method=mine", "--klom-forget-set=1-3", conftest=conftest)
    result.stdout.fnmatch_lines(["klom: *3 workers on 2 GPUs (shared, so times are longer)*"])
    found = {
        (p["PYTEST_XDIST_WORKER"], p["CUDA_VISIBLE_DEVICES"], p["OMP_NUM_THREADS"])
        for p in places(pytester)
    }
    assert found == {("gw0", "0", "2"), ("gw1", "1", "2"), ("gw2", "0", "1")}


def test_each_ensemble_is_trained_once(project, pytester, tmp_path):
    result = project(
        "-n2",
        f"--klom-store={tmp_path / 'own'}",
        "--klom-models=26",  # two packs
        "--klom-method=ga,do_nothing",  # a test each: both workers want both ensembles
        "--klom-forget-set=1",
        conftest=WRITES_DOWN,
    )
    result.assert_outcomes(passed=2)
    folders = ("oracles/DIGITS/forget_set_1", "full_models/DIGITS")
    every = [f"{folder}/sd_{i}____epoch_19.pt" for folder in folders for i in range(26)]
    assert sorted(written(pytester.path, tmp_path / "own")) == sorted(every)
