"""--klom-report: a page at the end of a run, whatever became of it."""

import re
import sys

import pytest
from helpers.made_up import CODE
from helpers.pages import packed, read, rows
from helpers.processes import WORKERS
from helpers.records import records

ASKED = ("--klom-method=ga", "--klom-param=lr=0.1,0.3", "--klom-forget-set=1", "--klom-models=6")
BREAKS = """
    import pytest

    @pytest.fixture
    def mine():
        def unlearn(model, forget, retain):
            raise {error}
            yield
        return unlearn
"""


def page(pytester, name="report.html"):
    return read((pytester.path / name).read_text())


def methods(root):
    return [row[0] for row in rows(root.one("table", id="rows"))[1:]]


@pytest.mark.parametrize("workers", WORKERS)
def test_it_has_what_the_run_measured(project, pytester, workers):
    asked = ("--klom-report=new/report.html", "--benchmark-json=run.json", *workers)
    result = project(*ASKED, *asked, "--klom-max=forget_p95=0.1")
    result.assert_outcomes(failed=2)
    assert re.search(r"^report: .*new/report\.html \([\d.]+ MB\)$", str(result.stdout), re.M)
    root = page(pytester, "new/report.html")
    data = packed(root)
    told = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    found = {record["setting"]: record for record in records(pytester.path / "run.json")}
    assert {row["setting"] for row in told} == {*found}
    for row in told:
        record = found[row["setting"]]
        assert row["forget_mean"] == pytest.approx(record["scores"]["forget"]["mean"], rel=1e-5)
        assert row["verdict"] == record["verdict"] == "inconclusive"
    assert (
        "2 limits on 2 tests: 0 kept, 0 exceeded, 2 inconclusive." in root.one(id="came-out").text
    )
    facts = root.one(id="facts").text
    assert "6 unlearned against 6 oracles" in facts
    assert "torch" in facts
    assert not [*root.all(id="wrong")]  # what limits said stands with them
    assert not [*root.all("img")]


def test_examples_are_there_where_they_are_asked_for(project, pytester):
    project(*ASKED, "--klom-report=report.html", "--klom-report-examples")
    pictures = [*page(pytester).one(id="points-shown").all("img")]
    assert len(pictures) >= 5
    assert all(p.attributes["src"].startswith("data:image/png;base64,") for p in pictures)


def test_a_test_that_broke_is_named_with_its_reason(project, pytester):
    conftest = BREAKS.format(error="ZeroDivisionError('<b>nothing</b>')")
    methods_asked = "--klom-method=do_nothing,mine"
    result = project(
        methods_asked, "--klom-forget-set=1", "--klom-report=report.html", conftest=conftest
    )
    result.assert_outcomes(passed=1, failed=1)
    root = page(pytester)
    text = root.one(id="wrong").text
    assert "test_mine.py::test_klom[digits-forget_set_1-mine]" in text
    assert "ZeroDivisionError: <b>nothing</b>" in text
    assert methods(root) == ["oracles", "do_nothing"]


@pytest.mark.processes
def test_an_interrupted_run_has_what_was_measured(project, pytester):
    conftest = BREAKS.format(error="KeyboardInterrupt")
    asked = ("--klom-method=do_nothing,mine,ga", "--klom-forget-set=1", "--klom-report=report.html")
    result = project(*asked, conftest=conftest, alone=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    root = page(pytester)
    assert methods(root) == ["oracles", "do_nothing"]
    text = root.one(id="wrong").text
    assert "it did not run to its end" in text
    assert "forget_set_1-mine" in text
    assert "forget_set_1-ga" in text


def test_margins_have_one_too(project, pytester):
    text = CODE + (
        "\ndef test_scored(klom):\n"
        "    klom.check(klom.score(oracle=models(8, 1), unlearned=models(8, 2), **USUAL))\n"
    )
    pytester.makepyfile(test_mine=text)
    project("--klom-report=report.html").assert_outcomes(passed=1)
    root = page(pytester)
    assert methods(root) == ["oracles", "margins"]
    assert "computed elsewhere" in root.one(id="asked").text
    assert root.one("h1").text == "Unlearning, measured from margins"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--klom-report=report.txt"], "--klom-report=*report.txt: name a file that ends in .html"),
        (["--klom-report="], "--klom-report is empty: name a file.html"),
        (["--klom-report-examples"], "--klom-report-examples needs --klom-report=FILE.html"),
        (["--klom-report=test_mine.py/report.html"], "--klom-report: *test_mine.py cannot be made (*"),
        (["--klom-report=folder.html"], "--klom-report: *folder.html is a folder: name a file*"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_at_once(project, pytester, asked, said):
    pytester.mkdir("folder.html")
    result = project(*ASKED, *asked)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {said}"])


def test_nothing_to_report_is_refused(project, pytester):
    pytester.makepyfile(test_mine="def test_other(): pass")
    result = project("--klom-report=report.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --klom-report needs --klom-method*"])


@pytest.mark.parametrize("name", ["matplotlib", "jinja2"])
def test_without_the_extra_it_says_what_to_install(project, monkeypatch, pytester, name):
    monkeypatch.setitem(sys.modules, name, None)  # as where it is not installed
    result = project(*ASKED, "--klom-report=report.html")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: --klom-report needs {name}: pip install klom-bench?report?*"]
    )
    assert not (pytester.path / "report.html").exists()


def test_a_page_that_cannot_be_written_is_red(project, pytester):
    conftest = """
        from pathlib import Path

        def pytest_runtest_setup(item):
            Path("report.html").mkdir()
    """
    result = project(
        *ASKED[:1], "--klom-forget-set=1", "--klom-report=report.html", conftest=conftest
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["error: --klom-report: *report.html not written (*"])


def test_nothing_is_written_where_nothing_runs(project, pytester):
    for asked in ("--collect-only", "--klom-plan"):
        project(*ASKED, "--klom-report=report.html", asked)
    assert not (pytester.path / "report.html").exists()
