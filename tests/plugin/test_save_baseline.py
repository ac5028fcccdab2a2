"""--klom-save-baseline."""

import json
import os
import re

import pytest
from helpers.baselines import ASKED, lower_ga_on_3
from helpers.processes import WORKERS


def test_the_saved_file_is_sorted_and_stays_the_same(project, saved, pytester):
    path = pytester.path / "base.json"
    text = path.read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=1, sort_keys=True) + "\n"
    assert list(content["tests"]) == sorted(content["tests"])
    assert len(text) < 7000 * len(content["tests"])
    assert len(text.splitlines()) < 160 * len(content["tests"])  # no line a number of many
    assert not re.search(r"seconds|torch|/tmp|node", text)
    reversed_order = ("--klom-method=ga,do_nothing", "--klom-forget-set=3,1", "--klom-models=6")
    project(*reversed_order, "--klom-save-baseline=base.json").assert_outcomes(passed=4)
    assert path.read_text() == text


def test_a_run_that_measured_less_than_all_saves_nothing(project, saved, pytester):
    path = pytester.path / "base.json"
    text = path.read_text()
    conftest = """
        import pytest

        @pytest.fixture
        def do_nothing():
            def unlearn(model, forget, retain):
                raise RuntimeError
                yield
            return unlearn
    """
    result = project(*ASKED, "--klom-save-baseline=base.json", conftest=conftest)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["baseline not saved: not all tests were measured*"])
    assert path.read_text() == text


@pytest.mark.parametrize("args", [["-k", "nosuch"], ["nosuchfile.py"]])
def test_a_run_of_nothing_saves_nothing(project, saved, baseline_files, pytester, args):
    result = project(*ASKED, "--klom-save-baseline=base.json", *args)
    assert result.ret != 0
    assert (pytester.path / "base.json").read_text() == baseline_files[0]


def test_conformance_alone_saves_nothing_and_is_held_against_nothing(
    project, saved, baseline_files, pytester
):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_conformance")
    result = project(*ASKED, "--klom-save-baseline=base.json")
    assert result.ret == 1
    assert (pytester.path / "base.json").read_text() == baseline_files[0]
    against = ("--klom-baseline=base.json", "--klom-max-regression=val_p95=1%")
    project(*ASKED, *against).assert_outcomes(passed=2)


TWO = """
    import dataclasses, pytest

    @pytest.mark.parametrize("lr", [0.3, 0.01])
    def test_lr(klom_cell, klom, lr):
        cell = dataclasses.replace(klom_cell, hyperparameters={**klom_cell.hyperparameters, "lr": lr})
        klom.check(klom.measure(cell))
"""


def test_two_records_of_one_test_are_not_made_one(project, saved, baseline_files, pytester):
    pytester.makepyfile(test_mine=TWO)
    asked = ("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6")
    result = project(*asked, "--klom-save-baseline=base.json", "--benchmark-json=two.json")
    result.assert_outcomes(passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["baseline not saved: two records of digits-forget_set_3-ga differ*"]
    )
    assert (pytester.path / "base.json").read_text() == baseline_files[0]
    refused = project(*asked, "--klom-baseline=two.json")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["*two records of digits-forget_set_3-ga differ*"])


def test_the_same_test_twice_is_one(project, pytester):
    pytester.makepyfile(test_again="from klom_bench.suite import test_klom")
    result = project("--klom-method=ga", "--klom-forget-set=1", "--klom-save-baseline=base.json")
    result.assert_outcomes(passed=2)
    assert len(json.loads((pytester.path / "base.json").read_text())["tests"]) == 1


def test_a_run_that_fails_against_a_file_does_not_replace_it(
    project, saved, baseline_files, pytester
):
    saved(lower_ga_on_3)
    text = (pytester.path / "base.json").read_text()
    both = ("--klom-baseline=base.json", "--klom-save-baseline=base.json")
    result = project(*ASKED, *both, "--klom-max-regression=forget_p95=0.1")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["baseline not saved: tests failed against this very file*"])
    assert (pytester.path / "base.json").read_text() == text
    project(*ASKED, *both, "--klom-max-regression=forget_p95=0.9").assert_outcomes(passed=4)
    assert (pytester.path / "base.json").read_text() == baseline_files[0]


def test_a_link_stays_a_link(project, pytester):
    real = pytester.mkdir("real") / "base.json"
    (pytester.path / "base.json").symlink_to(real)
    project("--klom-method=ga", "--klom-forget-set=1", "--klom-save-baseline=base.json")
    assert (pytester.path / "base.json").is_symlink()
    assert "digits-forget_set_1-ga" in real.read_text()


def test_what_is_no_file_is_not_replaced(project, pytester):
    os.mkfifo(pytester.path / "pipe")
    result = project("--klom-method=ga", "--klom-forget-set=1", "--klom-save-baseline=pipe")
    assert result.ret == 1
    assert (pytester.path / "pipe").is_fifo()


ODD = """
    import numpy as np, pytest, torch

    @pytest.fixture
    def odd(monkeypatch):
        monkeypatch.setattr("klom_bench.cell.rounds.import_compiler", lambda: None)  # 2 s a process
        def unlearn(model, forget, retain, *, lr=np.float64(0.5), kind=torch.float32, way=torch.optim.SGD,
                    pairs=((1, 2), (3, 4)), table={1: 0.5}, limit=float("nan"), some=frozenset([1])):
            with torch.no_grad():
                for p in model.parameters():
                    p *= lr
            yield
        return unlearn
"""


@pytest.mark.parametrize("workers", WORKERS)
def test_hyperparameters_of_any_kind_travel_and_stay_the_same(project, pytester, workers):
    pytester.makeconftest(ODD)
    asked = ("--klom-method=odd", "--klom-forget-set=1")
    project(*asked, *workers, "--klom-save-baseline=base.json").assert_outcomes(passed=1)
    (record,) = json.loads((pytester.path / "base.json").read_text(), parse_constant=pytest.fail)[
        "tests"
    ].values()
    found = record["hyperparameters"]
    assert (found["lr"], found["kind"], found["limit"]) == (0.5, "torch.float32", "nan")
    assert (found["pairs"], found["table"]) == ([[1, 2], [3, 4]], {"1": 0.5})
    result = project(
        *asked,
        "--klom-baseline=base.json",
        "--klom-max-regression=val_p95=0",
        "--klom-max-regression=val_mean=0",
    )
    result.assert_outcomes(passed=1)
    assert "changed since" not in result.stdout.str()


def test_a_baseline_that_cannot_be_written_turns_the_run_red(project, pytester):
    name = "b" * 250  # fits, but not with what is added while it is written
    result = project("--klom-method=ga", "--klom-forget-set=1", f"--klom-save-baseline={name}")
    result.assert_outcomes(passed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["baseline not saved: *cannot be written (File name too long)"])


def test_a_run_that_fails_its_gates_may_become_the_baseline(project, pytester):
    result = project(*ASKED, "--klom-max=forget_p95=0.1", "--klom-save-baseline=base.json")
    assert result.ret == 1
    assert len(json.loads((pytester.path / "base.json").read_text())["tests"]) == 4
