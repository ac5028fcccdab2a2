"""Runs that pytest-xdist shares out, against serial ones."""

import json
import os
import re
import subprocess
import sys

import pytest

SETS = ("--klom-method=ga,do_nothing", "--klom-forget-set=1-2")
TESTS = 4


@pytest.fixture
def run(pytester):
    """A project with one test file; run(*args, conftest=...), with workers in its own process."""
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom")

    def started(*args, conftest=""):
        if conftest:
            pytester.makeconftest(conftest)
        alone = any(arg.startswith("-n") and arg != "-n0" for arg in args)
        start = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
        return start(
            "--klom-models=4", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", *args
        )

    return started


def benchmarks(path):
    return json.loads(path.read_text(), parse_constant=pytest.fail)["benchmarks"]


def table(result):
    """The scores and accuracies of the KLOM table."""
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if "= KLOM =" in line)
    assert sum("= KLOM =" in line for line in lines) == 1
    rows = [line for line in lines[start:] if line.startswith(("forget_set", "     "))]
    return [re.split(r" +\d+\.\d\d +\d+\.\d%", row)[0] for row in rows]


@pytest.fixture
def serial(run, pytester):
    result = run(*SETS, "-n0", "--benchmark-json=serial.json")
    result.assert_outcomes(passed=TESTS)
    return benchmarks(pytester.path / "serial.json"), table(result)


def test_workers_give_what_a_serial_run_gives(run, pytester, serial):
    result = run(*SETS, "-n2", "--benchmark-json=out.json")
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


def test_saved_runs_are_compared_serial_or_not(run, pytester):
    asked = ("--klom-method=ga", "--klom-forget-set=1")
    for workers in ([], ["-n1"]):
        assert run(*asked, *workers, "--benchmark-autosave").ret == 0
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
    for number, workers, status in (("0001", [], 1), ("0001", ["-n1"], 1), ("0002", ["-n1"], 0)):
        against = f"--benchmark-compare={number}"
        result = run(*asked, *workers, against, "--benchmark-compare-fail=mean:100%")
        text = result.stdout.str() + result.stderr.str()
        assert result.ret == status, text
        assert "Traceback" not in text
        assert ("Performance has regressed" in text) == bool(status)
        result.stdout.fnmatch_lines(["1 of 1 tests measured*", "*1 passed*"])


def test_what_pytest_benchmark_is_told_holds_for_workers(run, pytester):
    asked = ("--klom-method=ga", "--klom-forget-set=1", "-n1", "--benchmark-json=out.json")
    run(*asked, "--benchmark-disable").assert_outcomes(passed=1)
    assert not (pytester.path / "out.json").exists()
    both = pytester.runpytest_inprocess(*asked, "--benchmark-disable", "--benchmark-only")
    assert both.ret == 4
    assert "--benchmark-only and --benchmark-disable" in both.stderr.str()
    skipped = run(*asked, "--benchmark-skip")
    skipped.assert_outcomes(skipped=1)
    assert skipped.ret == 1
    skipped.stdout.fnmatch_lines(["0 of 1 tests measured"])


def test_a_failed_gate_is_recorded_and_a_method_that_raises_is_not(run, pytester):
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def unlearn(model, forget, retain):
                raise ZeroDivisionError("of mine")
                yield
            return unlearn
    """
    result = run(
        "-n2",
        "--klom-method=ga,mine",
        "--klom-forget-set=1",
        "--klom-max=val_mean=11",
        "--klom-max=forget_p95=0.1",
        "--benchmark-json=out.json",
        "--benchmark-only",
        conftest=conftest,
    )
    result.assert_outcomes(failed=2)
    (bench,) = benchmarks(pytester.path / "out.json")
    assert bench["extra_info"]["klom"]["verdict"] == "inconclusive"
    result.stdout.fnmatch_lines(["*ZeroDivisionError: of mine*", "1 of 2 tests measured*"])


def test_subtests_do_not_double_a_measurement(run, pytester):
    pytester.makepyfile(
        test_mine="""
        def test_parts(klom_cell, klom, subtests):
            record = klom.measure(klom_cell)
            for split, scores in record.scores.items():
                with subtests.test(split=split):
                    assert scores.p95 >= 0
        """
    )
    run("-n1", "--klom-method=ga", "--klom-forget-set=1", "--benchmark-json=out.json")
    assert len(benchmarks(pytester.path / "out.json")) == 1


def test_other_suites_see_stock_behaviour(run, pytester):
    pytester.makepyfile(test_other="def test_other(benchmark): benchmark(lambda: None)")
    result = run("-n1", "--benchmark-json=out.json", "test_other.py")
    result.assert_outcomes(passed=1)
    assert "automatically disabled" in result.stdout.str() + result.stderr.str()
    assert not (pytester.path / "out.json").exists()


TELLS_DIST = """
    def pytest_configure(config):
        if not hasattr(config, "workerinput"):
            print("dist is", config.option.dist, config.option.numprocesses)
"""


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-n2", "--klom-method=ga"], "dist is worksteal 2"),
        (["-n2", "--klom-method=ga", "--dist=load"], "dist is load 2"),
        (["-n2", "--klom-method=ga", "-d"], "dist is load 2"),
        (["-n2"], "dist is load 2"),
        (["-n0", "--klom-method=ga"], "dist is no 0"),
        (["-n2", "--klom-method=ga", "--klom-plan"], "dist is no 0"),
    ],
)
def test_worksteal_is_the_default_of_klom_tests_alone(pytester, args, told):
    pytester.makeconftest(TELLS_DIST)
    assert told in pytester.runpytest_inprocess(*args, "--collect-only").stdout.str()


TELLS_PLACE = """
    import json, os, pathlib, pytest, torch
    torch.cuda.device_count = lambda: {count}

    @pytest.fixture
    def mine():
        def unlearn(model, forget, retain):
            names = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "PYTEST_XDIST_WORKER"
            found = {{name: os.environ.get(name) for name in names}}
            with open("places", "a") as file:
                file.write(json.dumps(found) + "\\n")
            died = pathlib.Path("died")
            if {die} and not died.exists():
                died.write_text(found["CUDA_VISIBLE_DEVICES"])
                os.kill(os.getpid(), 9)
            with torch.no_grad():
                for p in model.parameters():
                    p *= 0.9
            yield
        return unlearn
"""


def places(pytester):
    return [json.loads(line) for line in (pytester.path / "places").read_text().splitlines()]


def test_auto_is_a_worker_a_gpu_of_the_callers(run, pytester, monkeypatch):
    """The count of GPUs is made up; everything else is as with real ones."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, 7,3")
    conftest = TELLS_PLACE.format(count=3, die=False)
    asked = ("--klom-method=mine", "--klom-forget-set=1-6", "--klom-device=auto")
    result = run("-n", "auto", *asked, conftest=conftest)
    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["klom: mine on digits*3 workers on 3 GPUs*"])
    found = places(pytester)
    assert {p["PYTEST_XDIST_WORKER"] for p in found} == {"gw0", "gw1", "gw2"}
    by_worker = {(p["PYTEST_XDIST_WORKER"], p["CUDA_VISIBLE_DEVICES"]) for p in found}
    assert by_worker == {("gw0", "GPU-aa"), ("gw1", "7"), ("gw2", "3")}


def test_a_replacement_keeps_the_gpu(run, pytester, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,2")
    conftest = TELLS_PLACE.format(count=2, die=True)
    result = run("-n1", "--klom-method=mine", "--klom-forget-set=1-3", conftest=conftest)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["2 of 3 tests measured*"])
    found = [(p["PYTEST_XDIST_WORKER"], p["CUDA_VISIBLE_DEVICES"]) for p in places(pytester)]
    assert found == [("gw0", "4"), ("gw1", "4"), ("gw1", "4")]


def test_workers_share_gpus_and_threads(run, pytester, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    conftest = TELLS_PLACE.format(count=2, die=False)
    conftest += "    torch.get_num_threads = lambda: 5\n"
    result = run("-n3", "--klom-method=mine", "--klom-forget-set=1-6", conftest=conftest)
    result.stdout.fnmatch_lines(["klom: *3 workers on 2 GPUs (shared, so times are longer)*"])
    found = {
        (p["PYTEST_XDIST_WORKER"], p["CUDA_VISIBLE_DEVICES"], p["OMP_NUM_THREADS"])
        for p in places(pytester)
    }
    assert found == {("gw0", "0", "2"), ("gw1", "1", "2"), ("gw2", "0", "1")}


def test_without_gpus_auto_is_a_worker_a_physical_core(run):
    import joblib

    cores = joblib.cpu_count(only_physical_cores=True)
    result = run("-n", "auto", "--klom-method=ga", "--klom-device=cpu", "--klom-forget-set=1")
    result.stdout.fnmatch_lines([f"klom: ga on*, {cores} workers, store*"])


COUNTS = """
    import json, os
    import klom_bench.store.store as store
    train_pack = store.train_pack

    def counted(ensemble, members, *rest):
        with open("trained", "a") as file:
            file.write(json.dumps([ensemble.label, members]) + "\\n")
        return train_pack(ensemble, members, *rest)

    store.train_pack = counted
"""


def test_each_ensemble_is_trained_once(run, pytester, tmp_path):
    result = run(
        "-n3",
        f"--klom-store={tmp_path / 'own'}",
        "--klom-models=30",
        "--klom-method=ga,do_nothing",
        "--klom-forget-set=1-3",
        conftest=COUNTS,
    )
    result.assert_outcomes(passed=6)
    lines = (pytester.path / "trained").read_text().splitlines()
    trained = sorted((label, i) for label, members in map(json.loads, lines) for i in members)
    labels = [
        "oracles of forget_set_1",
        "oracles of forget_set_2",
        "oracles of forget_set_3",
        "originals of digits",
    ]
    assert trained == [(label, i) for label in labels for i in range(30)]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["-p", "no:benchmark", "--klom-method=ga"], "which -p no:benchmark switches off"),
        (["-n2", "--dist=loadgroup", "--klom-method=ga"], "--dist=loadgroup*once a worker"),
        (["-p", "no:xdist", "-n2", "--klom-method=ga"], "unrecognized arguments: -n2"),
        (["--benchmark-cprofile=tottime", "--klom-method=ga"], "cannot be unlearned again"),
        (["-n2", "--klom-method=ga", "--klom-forget-set=77"], "unknown forget set 'forget_set_77'"),
        (["-n2", "--dist=each", "--klom-method=ga"], "--dist=each would measure every test once a"),
        (["--benchmark-json=no/out.json", "--klom-method=ga"], "the folder is not there"),
        (["-n2", "--klom-method=ga", "--pdb"], "--pdb*incompatible*"),
    ],
)
def test_odd_input_is_told_in_words(run, pytester, args, message):
    result = run(*args) if "no:" in args[1] else pytester.runpytest_inprocess(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message}*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_without_xdist_a_serial_run_works(run):
    result = run("-p", "no:xdist", "--klom-method=ga", "--klom-forget-set=1")
    result.assert_outcomes(passed=1)


def test_without_pytest_benchmark_other_suites_run(run, pytester):
    pytester.makepyfile(test_other="def test_other(): pass")
    run("-p", "no:benchmark").assert_outcomes(passed=1, deselected=1)
    assert os.environ.get("PYTEST_XDIST_WORKER") is None
