"""What stands where at the end of a run, and pytest's short summary."""

import json
import re

import pytest
from helpers.processes import WORKERS

GA = ("--klom-method=ga", "--klom-forget-set=3")
FAILS = (*GA, "--klom-max=val_mean=0.1", "--klom-max=forget_mean=0.1")
REASON = re.compile(r"(?:forget|val)_mean \d\d?\.\d\d, limit 0\.1: inconclusive, and 1 more")
TIMES = "Name (time in "
OTHERS = """
import pytest

class Other:
    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("of another plugin")

def pytest_configure(config):
    config.pluginmanager.register(Other())
"""


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """No environment of CI, in which pytest cuts nothing, and no options from it."""
    for name in ("CI", "BUILD_NUMBER", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


def in_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


@pytest.mark.parametrize("workers", WORKERS)
def test_klom_is_the_last_that_plugins_say(project, pytester, workers):
    result = project(*FAILS, *workers, "--benchmark-save=a", conftest=OTHERS)
    out, err = result.stdout.str(), result.stderr.str()
    assert in_order(out, "= FAILURES =", "of another plugin", "= KLOM =", "= short test summary")
    assert TIMES not in out
    (saved,) = pytester.path.rglob("*_a.json")
    assert f"Saved benchmark data in: {saved}" in err
    (benchmark,) = json.loads(saved.read_bytes())["benchmarks"]
    assert benchmark["stats"]["mean"] > 0


@pytest.mark.parametrize("asked", ["--benchmark-columns=mean", "--benchmark-sort=min"])
def test_the_table_of_times_is_there_when_asked_for(project, asked):
    out = project(*GA, asked).stdout.str()
    assert in_order(out, TIMES, "= KLOM =")


def test_it_may_be_asked_for_in_the_ini_and_the_environment(project, monkeypatch):
    table = '[tool.pytest]\naddopts = ["--benchmark-name=short"]\n'
    assert TIMES in project(*GA, pyproject=table).stdout.str()
    monkeypatch.setenv("PYTEST_ADDOPTS", "--benchmark-time-unit=ms")
    assert TIMES in project(*GA, pyproject="").stdout.str()


def test_a_regression_of_times_is_said_and_hides_nothing(project, pytester, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    project(*GA, "--benchmark-save=a")
    (saved,) = pytester.path.rglob("*_a.json")
    content = json.loads(saved.read_bytes())
    for benchmark in content["benchmarks"]:
        benchmark["stats"]["mean"] = 1e-9
    saved.write_text(json.dumps(content))
    result = project(*FAILS, "--benchmark-compare", "--benchmark-compare-fail=mean:5%")
    assert result.ret == 1
    assert "Performance has regressed" in result.stderr.str()
    assert in_order(result.stdout.str(), TIMES, "::error ", "= KLOM =", "= short test summary")


def test_benchmarks_of_others_have_their_table(pytester, small_store):
    pytester.makepyfile(
        test_mine="""
        import numpy as np

        def test_other(benchmark):
            benchmark(lambda: None)

        def test_mine(klom):
            oracle, mine = np.random.default_rng(0).normal(size=(2, 6, 20))
            klom.check(klom.score(oracle=oracle, unlearned=mine, forget=[1, 2], train_points=10))
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=2)
    assert in_order(result.stdout.str(), TIMES, "= KLOM =")


def short(result, start="FAILED"):
    return [line for line in result.outlines if line.startswith(start)]


def test_the_short_summary_ends_with_the_reason(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    result = project(*FAILS, "--tb=no")
    (line,) = short(result)
    assert re.fullmatch(rf"FAILED test_mine\.py::test_klom\[digits-.*\] - {REASON.pattern}", line)
    assert not short(result, "failed: ")


@pytest.mark.parametrize(("columns", "more"), [("80", ["-q"]), ("120", ["-rN"])])
def test_what_pytest_cuts_stands_whole_above_it(project, monkeypatch, columns, more):
    monkeypatch.setenv("COLUMNS", columns)
    result = project(*FAILS, *more)
    (line,) = short(result, "failed: ")
    assert re.fullmatch(rf"failed: forget_set_3 ga: {REASON.pattern}", line)
    assert len(line) <= 80
    assert len(short(result)) == (more != ["-rN"])


@pytest.mark.parametrize("given", ["CI", "-vv"])
def test_where_pytest_cuts_nothing_it_says_the_reason_alone(project, monkeypatch, given):
    monkeypatch.setenv("COLUMNS", "80")
    if given == "CI":
        monkeypatch.setenv("CI", "true")
    result = project(*FAILS, "--tb=no", *[given] * (given == "-vv"))
    assert REASON.search(short(result)[-1])
    assert not short(result, "failed: ")
    assert "exceeds" not in result.stdout.str()
    assert "is inconclusive, it lies" not in result.stdout.str()


def test_a_test_that_is_not_measured_says_why_without_warnings(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    result = project("--klom-method=ga", "--klom-forget-set=3", "--klom-max=forget_excess=1")
    result.assert_outcomes(failed=1, warnings=0)
    result.stdout.fnmatch_lines(["forget_excess needs 5 models and oracles at least, not 4: *"])
    assert not short(result, "failed: ")
