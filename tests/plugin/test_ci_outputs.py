"""What machines read: JUnit XML, GitHub's job summary and annotations."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from helpers.processes import WORKERS

from klom_bench.cell.gates import METRICS
from klom_bench.metrics.word import WORDS
from klom_bench.report.github import annotation, job_summary

ASKED = ("--klom-method=ga,do_nothing", "--klom-forget-set=1")


@pytest.fixture
def github(monkeypatch, pytester):
    """The environment of a job; the path of its summary."""
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path.parent))
    return summary


@pytest.mark.parametrize("workers", WORKERS)
def test_junit_has_the_scores(project, pytester, workers):
    asked = (*ASKED, *workers, "--klom-models=6")
    project(*asked, "--junitxml=out.xml", "--klom-max=forget_p95=0.1")
    cases = list(ElementTree.parse(pytester.path / "out.xml").iter("testcase"))
    assert len(cases) == 2
    for case in cases:
        (failed,) = case.iter("failure")
        assert re.fullmatch(r"forget_p95 [\d.]+, limit 0\.1: inconclusive", failed.get("message"))
        assert failed.text.startswith(f"{failed.get('message')}\n  ")
        found = {p.get("name"): p.get("value") for p in case.iter("property")}
        assert found.pop("klom_verdict") == "inconclusive"
        assert found.pop("klom_word") in WORDS
        assert 0 < float(found.pop("klom_retrained_p")) <= 1
        with_error = [m for m in METRICS if m.endswith(("mean", "p95", "excess"))]
        ends = {f"klom_{metric}_{end}" for metric in with_error for end in ("low", "high")}
        assert found.keys() == {f"klom_{metric}" for metric in METRICS} | ends
        # Ten random points: six models cannot tell the originals from the oracles.
        assert found.pop("klom_forget_leftover") == "n/a"
        for metric in {*METRICS} - {"forget_leftover"}:
            value = float(found[f"klom_{metric}"])
            assert value < 12
            assert value >= 0 or "excess" in metric
            if metric in with_error:
                low, high = (float(found[f"klom_{metric}_{end}"]) for end in ("low", "high"))
                assert low <= value <= high


def test_github_gets_a_summary_and_an_annotation_a_failing_test(project, github, pytester):
    result = project(*ASKED, "--klom-max=forget_p95=0.1", "--klom-max=val_mean=0.2")
    result.assert_outcomes(failed=2)
    commands = [line for line in result.outlines if line.startswith("::")]
    assert len(commands) == 2
    folder = pytester.path.name
    assert re.match(
        rf"::error file={folder}/test_mine.py,title=test_mine.py%3A%3Atest_klom\[digits-forget_set_1-"
        r"ga\]::forget_p95 [\d.]+, limit 0\.1: inconclusive, and 1 more%0A  ga on forget_set_1 .*%0A  forget_p95",
        commands[0],
    )
    assert "95 %25 of runs" in commands[0]
    page = github.read_text()
    assert "| forget set |  | excess forget |" in page
    assert "| forget set |  | KLOM mean forget |" in page
    assert len([line for line in page.splitlines() if line.startswith("|")]) == 2 * (2 + 2 * 2)
    assert "| ga |" in page
    assert "2 of 2 tests measured: 2 inconclusive" in page
    assert "the limit 0.1 is inconclusive" in page
    assert page.count("<details>") == page.count("</details>") == 2


def test_a_second_step_adds_to_the_summary(project, github):
    github.write_text("before\n")
    project(*ASKED)
    text = github.read_text()
    assert text.startswith("before\n## KLOM")
    assert "no gate: nothing was asserted" in text


def test_annotations_of_what_never_measured(project, github):
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def unlearn(model, forget, retain):
                raise ZeroDivisionError
                yield
            return unlearn
    """
    result = project("--klom-method=mine", "--klom-forget-set=1", conftest=conftest)
    assert sum(line.startswith("::error ") for line in result.outlines) == 1
    assert "0 of 1 tests measured" in github.read_text()


@pytest.mark.parametrize("target", ["no/such/folder/summary.md", "."])
def test_a_summary_that_cannot_be_written(project, github, monkeypatch, target):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", target)
    result = project(*ASKED)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"GITHUB_STEP_SUMMARY={target} cannot be written (*): no job*"])


@pytest.mark.parametrize("workers", WORKERS)
def test_a_file_that_cannot_be_collected_is_told(project, github, pytester, workers):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom", test_other="x = (")
    result = pytester.runpytest_inprocess("--klom-models=4", *ASKED, *workers)
    assert result.ret != 0
    (command,) = [line for line in result.outlines if line.startswith("::error ")]
    assert "test_other.py" in command
    assert "SyntaxError" in github.read_text()


def test_a_usage_error_is_told(project, github):
    assert project("--klom-method=nosuch").ret == 4
    assert "error: unknown method 'nosuch'" in github.read_text()


def test_elsewhere_nothing_of_this_is_written(project, monkeypatch, pytester):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    result = project(*ASKED, "--klom-max=forget_p95=0.1")
    assert not (pytester.path / "summary.md").exists()
    assert not [line for line in result.outlines if line.startswith("::")]


def test_annotations_are_escaped():
    assert annotation("a,b.py", "t[x:y]", "50 %\r\nmore: all") == (
        "::error file=a%2Cb.py,title=t[x%3Ay]::50 %25%0D%0Amore: all"
    )


def test_a_summary_of_nothing_says_so():
    page = job_summary([], ["0 of 3 tests measured"], {"a|b<c": "broke\nhere"})
    assert "0 of 3 tests measured" in page
    assert "|  |" not in page
    assert "a\\|b&lt;c" in page
    assert "    broke\n    here" in page
