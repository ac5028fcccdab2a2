"""Beside plugins that take over the fixture `benchmark`, or run a test again."""

import json
import xml.etree.ElementTree as ET

OWN = """
import pytest

@pytest.fixture
def benchmark(benchmark):
    pedantic = benchmark.pedantic
    benchmark.pedantic = lambda target, **_: pedantic({target}, rounds=1, iterations=1)
    return benchmark
"""
FOREIGN = """
import pytest

class Benchmark:
    extra_info = {}
    def pedantic(self, target, **_):
        target()

@pytest.fixture
def benchmark():
    return Benchmark()
"""
AGAIN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    # As pytest-rerunfailures does it.
    for _ in range({times}):
        item._initrequest()
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failed = [r for r in reports if r.failed]
        if _ < {times} - 1:
            for report in failed:
                report.outcome = "rerun"
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        if not failed:
            break
    return True
"""
GA = ("--klom-method=ga", "--klom-forget-set=3")


def test_unlearning_twice_is_an_error_and_leaves_no_score(project):
    target = "lambda: [target(), target()]"
    result = project(*GA, "--klom-save-baseline=b.json", conftest=OWN.format(target=target))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ga was to unlearn the same members a second time*"])
    result.stdout.fnmatch_lines(["0 of 1 tests measured", "baseline not saved: *"])
    assert result.ret == 1


def test_unlearning_never_is_an_error(project):
    result = project(*GA, conftest=OWN.format(target="lambda: None"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["nothing was unlearned: the fixture `benchmark` never called*"])


def test_a_fixture_that_calls_once_measures(project):
    result = project(*GA, "--benchmark-json=x.json", conftest=OWN.format(target="lambda: target()"))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["1 of 1 tests measured*"])


def test_a_fixture_that_records_nothing_is_refused_before(project, pytester):
    result = project(*GA, "--benchmark-json=x.json", conftest=FOREIGN)
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*test_mine.py::test_klom*has another one (of conftest): rename that one"]
    )


def test_a_plugin_that_blocks_pytest_benchmark_is_refused(project):
    """pytest-codspeed does so with --codspeed or CODSPEED_ENV."""
    result = project(
        *GA,
        "-n",
        "2",
        conftest="def pytest_configure(config):\n"
        "    config.pluginmanager.set_blocked('pytest-benchmark')\n",
    )
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*which another plugin has switched off, as --codspeed*"])


def test_a_test_that_is_run_again_says_why_it_failed(project, pytester):
    result = project(
        *GA,
        "--klom-max=val_mean=0.001",
        "--benchmark-json=x.json",
        "--junitxml=x.xml",
        conftest=AGAIN.format(times=3),
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["val_mean *, limit 0.001: inconclusive", "  ga on forget_set_3*"])
    assert "was called before" not in result.stdout.str()
    benchmarks = json.loads((pytester.path / "x.json").read_bytes())["benchmarks"]
    assert [b["name"] for b in benchmarks] == ["test_klom[digits-forget_set_3-ga]"]
    case = list(ET.parse(pytester.path / "x.xml").iter("testcase"))[-1]
    names = [p.get("name") for p in case.iter("property")]
    assert names.count("klom_verdict") == 1


def test_measuring_twice_in_one_test_is_still_an_error(project, pytester):
    pytester.makepyfile(
        test_mine="def test_klom(klom_cell, klom):\n"
        "    klom.measure(klom_cell)\n    klom.measure(klom_cell)\n"
    )
    result = project(*GA)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*klom.measure was called before in this test*"])
