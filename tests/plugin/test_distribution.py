"""How tests are shared out, and what is refused, before any worker starts."""

import os

import joblib
import pytest
import torch

TELLS_DIST = """
    def pytest_configure(config):
        if not hasattr(config, "workerinput"):
            print("dist is", config.option.dist, config.option.numprocesses)
"""


@pytest.mark.parametrize(
    ("count", "expected"), [(0, joblib.cpu_count(only_physical_cores=True)), (3, 3)]
)
def test_auto_is_a_worker_a_gpu_or_a_physical_core(pytester, monkeypatch, count, expected):
    """The count of GPUs is made up."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(count))
    config = pytester.parseconfig("-n", "auto", "--klom-method=ga")
    assert config.hook.pytest_xdist_auto_num_workers(config=config) == expected


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
def test_odd_input_is_told_in_words(project, pytester, args, message):
    result = project(*args) if "no:" in args[1] else pytester.runpytest_inprocess(*args)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"*{message}*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_without_xdist_a_serial_run_works(project):
    result = project("-p", "no:xdist", "--klom-method=ga", "--klom-forget-set=1")
    result.assert_outcomes(passed=1)


def test_without_pytest_benchmark_other_suites_run(project, pytester):
    pytester.makepyfile(test_other="def test_other(): pass")
    project("-p", "no:benchmark").assert_outcomes(passed=1, deselected=1)
    assert os.environ.get("PYTEST_XDIST_WORKER") is None
