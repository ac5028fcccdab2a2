"""--klom-family=holm and `family` in pyproject.toml."""

import json

import pytest

ASKED = ("--klom-method=do_nothing", "--klom-forget-set=3,5", "--klom-models=6")


@pytest.fixture(scope="session")
def excess() -> dict[str, float]:
    """Of doing nothing on sets 3 and 5, with its error, once somebody has measured it."""
    return {}


@pytest.fixture
def limits(project, pytester, excess):
    """Limits by forget set that are these many errors below its number, as pyproject.toml."""
    if not excess:
        project(*ASKED, "--benchmark-json=first.json", "--klom-max=forget_excess=9")
        content = json.loads((pytester.path / "first.json").read_text())
        for benchmark in content["benchmarks"]:
            klom = benchmark["extra_info"]["klom"]
            of = klom["excess"]["forget"]
            excess[klom["forget_set"]] = (of["value"], of["se"])

    def table(**below):
        text = "[tool.klom.gates.do_nothing]\n"
        for name, errors in below.items():
            value, se = excess[f"forget_{name}"]
            text += f"forget_{name}.forget_excess = {max(value - errors * se, 0)}\n"
        return text

    return table


def records(pytester):
    content = json.loads((pytester.path / "run.json").read_text())
    return {b["name"]: b["extra_info"]["klom"] for b in content["benchmarks"]}


def test_what_is_open_is_settled_at_the_end(project, pytester, limits):
    """2.3 errors above its limit, with five degrees of freedom: .035, enough for the last of two,
    not for one of two; the other is far above."""
    table = limits(set_3=2.3, set_5=12)
    args = (*ASKED, "--klom-family=holm", "--benchmark-json=run.json")
    result = project(*args, pyproject=table)
    result.assert_outcomes(passed=1, failed=1)  # set 3 waits
    assert result.ret == 1
    out = result.stdout.str()
    assert "2 gates judged together (Holm), so that no pass and no fail of them is wrong" in out
    assert ": 2 fail" in out
    assert "error: test_mine.py::test_klom[digits-forget_set_3-do_nothing]: forget_excess" in out
    assert out.count("error: test_mine.py") == 1
    for record in records(pytester).values():
        assert record["verdict"] == "fail"
        assert [gate["family"] for gate in record["gates"]] == [2]


def test_what_stays_open_makes_the_run_red(project, pytester, limits):
    result = project(*ASKED, "--klom-family=holm", pyproject=limits(set_3=0, set_5=0))
    result.assert_outcomes(passed=2)
    assert result.ret == 1
    assert "2 gates judged together" in result.stdout.str()
    assert result.stdout.str().count(": inconclusive\n  do_nothing on") == 2


def test_passes_at_the_end_are_green(project, limits):
    table = '[tool.klom.gates]\nfamily = "holm"\nforget_excess = 11\n'
    result = project(*ASKED, pyproject=table)
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert ": 2 pass" in result.stdout.str()
    alone = project(*ASKED, "--klom-family=none", pyproject=table)
    assert "judged together" not in alone.stdout.str()


@pytest.mark.processes
def test_workers_are_judged_together(project, pytester, limits):
    args = (*ASKED, "--klom-family=holm", "--benchmark-json=run.json", "-n", "2")
    result = project(*args, pyproject=limits(set_3=2.3, set_5=12))
    assert result.ret == 1
    assert {r["verdict"] for r in records(pytester).values()} == {"fail"}
    assert "error: test_mine.py::test_klom[digits-forget_set_3-do_nothing]" in result.stdout.str()


def test_github_is_told_too(project, pytester, limits, monkeypatch):
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = project(*ASKED, "--klom-family=holm", pyproject=limits(set_3=0, set_5=0))
    assert result.stdout.str().count("test_mine.py,title=test_mine.py") == 2
    assert "inconclusive" in summary.read_text()


@pytest.mark.parametrize(
    ("args", "table", "message"),
    [
        (("--klom-family=bonferroni",), "", "--klom-family must be none or holm"),
        ((), "[tool.klom.gates]\nfamily = 1\n", "family must be none or holm, got 1"),
        ((), '[tool.klom.gates.ga]\nfamily = "holm"\n', "family holds for all gates"),
    ],
)
def test_what_is_no_family(project, args, table, message):
    result = project(*ASKED, *args, pyproject=table)
    assert result.ret == 4
    assert message in result.stderr.str()
