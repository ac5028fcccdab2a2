"""Tests that score margins: gated, recorded and shown like those of cells, with no model there."""

import json
import xml.etree.ElementTree as ET

import jsonschema
import pytest
from helpers.made_up import CODE
from helpers.processes import WORKERS
from helpers.records import records

from klom_bench.cli.help import pages_by_topic

TWO = (
    CODE
    + """
def test_good(klom):
    sides = {"oracle": models(8, 1), "unlearned": models(8, 2), "originals": models(8, 3, 4.0)}
    klom.check(klom.score(**sides, **USUAL, name="good"))

@pytest.mark.parametrize("seed", [5])
def test_bad(klom, seed):
    record = klom.score(oracle=models(8, 1), unlearned=models(8, seed, 3.0), **USUAL)
    assert record.word == "unlike a retrain"
    klom.check(record)

def test_of_others():
    pass
"""
)
GATES = """
[tool.klom.gates.margins]
forget_excess = 1.0
[tool.klom.gates.margins.good]
val_p95 = 10.5
"""


@pytest.fixture
def scored(project, pytester):
    """Run pytest on two tests of margins and another, with these gates."""

    def run(*args, text=TWO, gates=GATES, **asked):
        pytester.makepyfile(test_mine=text)
        pytester.makefile(".toml", pyproject=gates)
        return project("-p", "no:randomly", *args, **asked)

    return run


@pytest.fixture
def importable(monkeypatch, request):
    """For runs in processes of their own."""
    monkeypatch.setenv("PYTHONPATH", str(request.config.rootpath / "tests"), prepend=":")


@pytest.mark.parametrize("workers", WORKERS)
def test_they_are_gated_recorded_and_shown_like_cells(scored, pytester, workers, importable):
    files = ("--junitxml=out.xml", "--benchmark-json=out.json", "--klom-save-points=points")
    result = scored(*files, *workers, alone=bool(workers))
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines_random(
        [
            "forget_excess *, limit 1: fail",
            "  margins on test_bad-5 of margins (8 unlearned *",
            "8 unlearned against 8 oracles of margins, *",
            "good * oracles *",
            "* do nothing *",
            "* margins * within limits",
            "* unlike a retrain[?]; fail",
            "2 of 2 tests measured: 1 within limits, 1 fail",
        ]
    )
    text = result.stdout.str()
    table = text[text.index("accuracy") :]
    assert table.count("do nothing ") == 1  # only one has originals
    names = sorted(path.name for path in (pytester.path / "points").iterdir())
    assert names == ["margins-good-margins.npz", "margins-test_bad-5-margins.npz"]
    cases = {
        case.get("name"): case for case in ET.parse(pytester.path / "out.xml").iter("testcase")
    }
    found = {p.get("name"): p.get("value") for p in cases["test_good"].iter("property")}
    assert found["klom_verdict"] == "pass"
    assert float(found["klom_forget_excess_low"]) < float(found["klom_forget_excess"])
    if workers:
        return  # pytest-benchmark writes nothing there without --klom-method
    good, bad = records(pytester.path / "out.json")
    jsonschema.validate(good, json.loads(pages_by_topic()["schema"]))
    assert [gate["metric"] for gate in good["gates"]] == ["forget_excess", "val_p95"]
    assert (good["verdict"], bad["verdict"]) == ("pass", "fail")
    for content in (good, bad):
        for key in ("accuracy", "relative_cost", "seconds"):
            assert not any(content[key].values())
        assert content["per_point"] is None
    assert bad["do_nothing"]["forget"]["mean"] is None
    timed = json.loads((pytester.path / "out.json").read_text())["benchmarks"]
    assert all(benchmark["stats"]["rounds"] == 1 for benchmark in timed)


def test_they_run_with_a_method_too(scored, pytester):
    text = "from klom_bench.suite import test_klom\n" + TWO
    asked = ("--klom-method=do_nothing", "--klom-forget-set=1", "--benchmark-json=out.json")
    result = scored(*asked, text=text)
    result.assert_outcomes(passed=2, failed=1, deselected=1)
    result.stdout.fnmatch_lines(
        [
            "4 unlearned against 4 oracles of digits, *",
            "8 unlearned against 8 oracles of margins, *",
            "3 of 3 tests measured: 1 no gate, 1 within limits, 1 fail",
        ]
    )
    assert len(records(pytester.path / "out.json")) == 3
    scored(*asked, "-m", "not klom_margins", text=text).assert_outcomes(passed=1, deselected=3)


def test_the_marker_is_set_and_chooses(scored):
    scored("--strict-markers", "-m", "not klom_margins").assert_outcomes(passed=1, deselected=2)
    scored("-m", "klom_margins").assert_outcomes(passed=1, failed=1, deselected=1)
    result = scored("-m", "not klom_margins")
    assert "KLOM" not in result.stdout.str()
    scored("--markers").stdout.fnmatch_lines(["@pytest.mark.klom_margins: *"])


def test_limits_of_options_and_markers_win(scored):
    text = TWO.replace("def test_good", "@pytest.mark.klom(val_p95=0.0)\ndef test_good")
    scored(text=text).assert_outcomes(passed=1, failed=2)
    asked = ("--klom-max=val_p95=10.5", "--klom-max=forget_excess=11")
    scored(*asked, text=text).assert_outcomes(passed=3)
    result = scored("--klom-confidence=0.5", "--klom-max=forget_excess=0.0001", "-k", "good")
    result.stdout.fnmatch_lines(["*the limit 0.0001*"])


def test_a_baseline_is_kept_and_compared_with(scored, pytester):
    result = scored("--klom-save-baseline=base.json", "-k", "good")
    result.stdout.fnmatch_lines(["baseline saved: *base.json"])
    tests = json.loads((pytester.path / "base.json").read_text())["tests"]
    assert [*tests] == ["margins-good-margins"]
    against = ("--klom-baseline=base.json", "--klom-max-regression=forget_mean=10%")
    scored(*against, "-k", "good").assert_outcomes(passed=1, deselected=2)
    worse = TWO.replace("models(8, 2)", "models(8, 2, 4.0)")
    result = scored(*against, "-k", "good", text=worse, gates="")
    result.assert_outcomes(failed=1, deselected=2)
    result.stdout.fnmatch_lines(["*forget_mean rose from *"])
    result = scored(
        *against,
        "-k",
        "good",
        text=TWO.replace("models(8, 2)", "models(9, 2)").replace("models(8, 3", "models(9, 3"),
    )
    result.stdout.fnmatch_lines(["*does not fit margins-good-margins: members is oracle=8 unl*"])
    result = scored(*against, "-k", "bad", "--klom-max=forget_excess=11")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: the baseline shares no test with this run"])


def test_two_tests_of_one_name_are_told_apart(scored):
    text = TWO.replace("USUAL)\n    assert", 'USUAL, name="good")\n    assert').replace(
        "3.0", "0.0"
    )
    result = scored(text=text.replace("unlike", "like"), gates="")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: several tests scored margins named good: give each *"])


@pytest.mark.parametrize("name", ["good", "godo"])
def test_limits_of_a_name_that_nothing_has_are_told(scored, name):
    said = scored(gates=GATES.replace("margins.good", f"margins.{name}")).stdout.str()
    assert ("limits of nothing: no test of this run scored margins named godo" in said) == (
        name == "godo"
    )


def test_a_test_that_could_not_be_scored_saves_no_baseline(scored, pytester):
    text = TWO.replace("models(8, 5", "models(1, 5").replace("models(8, seed", "models(1, seed")
    result = scored("--klom-save-baseline=base.json", text=text)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*unlearned has one model: KLOM compares several*", "*baseline not saved: not all tests*"]
    )
    assert not (pytester.path / "base.json").exists()


@pytest.mark.parametrize("args", [[], ["--klom-method=do_nothing", "--klom-forget-set=1"]])
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", "klom.score was not called: nothing was scored"),
        ("klom.score(**BOTH)\n    klom.score(**BOTH)", "klom.score was called before in this test"),
        (
            "klom.score(**BOTH)",
            "klom.check was not called with the record of this test: forget_mean *, limit 0.001: *",
        ),
        ("klom.measure(3)", "a test with `klom.measure` asks for `klom_cell`, too"),
        ("klom.score(**BOTH | {'forget': [999]})", "*has index 999, the train points are 0..199*"),
    ],
)
def test_tests_that_do_not_do_their_work(scored, args, body, message):
    both = 'BOTH = {"oracle": models(3, 1), "unlearned": models(3, 2), **USUAL}\n'
    text = f"{CODE}{both}@pytest.mark.klom(forget_mean=0.001)\ndef test_mine(klom):\n    {body}\n"
    klom = "from klom_bench.suite import test_klom\n" if args else ""
    result = scored(*args, text=klom + text, gates="")
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"*{message}*"])
    assert "INTERNALERROR" not in result.stdout.str()


@pytest.mark.processes
def test_nobody_waits_for_torch(scored, importable):
    last = "\ndef test_last():\n    import sys\n    assert 'torch' not in sys.modules\n"
    scored(text=TWO + last, alone=True).assert_outcomes(passed=3, failed=1)


def test_limits_of_a_marker_have_names(scored):
    text = TWO.replace("def test_good", "@pytest.mark.klom(2.0)\ndef test_good")
    scored(text=text).stdout.fnmatch_lines(["*@pytest.mark.klom has (2.0,): limits are given by*"])


def test_a_cell_is_not_scored_as_margins(scored):
    text = (
        f"{CODE}def test_mine(klom, klom_cell):\n    klom.score(oracle=1, unlearned=1, **USUAL)\n"
    )
    result = scored("--klom-method=do_nothing", "--klom-forget-set=1", text=text, gates="")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*a test with `klom.score` asks for no `klom_cell`*"])


@pytest.mark.parametrize(
    ("args", "gates", "message"),
    [
        (["--klom-baseline=nothing.json"], "", "the baseline *nothing.json cannot be read"),
        (["--klom-max=val_p96=1"], "", "--klom-max: unknown limit 'val_p96'"),
        (["--klom-max-regression=val_p95=1"], "", "*above what[?] Give the earlier run*"),
        ([], "[tool.klom.gates]\nval_p96 = 1\n", "unknown limit 'val_p96'"),
        (["--klom-estimator=mine"], "", "unknown estimator 'mine'"),
        (["--klom-save-baseline=no/base.json"], "", "cannot be written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(scored, args, gates, message):
    result = scored(*args, gates=gates)
    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: *{message}*"])


def test_github_is_told_of_the_first_failure_too(scored, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    score = "klom.score(oracle=models(8, 1), unlearned=models(8, 2, 3.0), **USUAL, name='{0}')"
    tests = "".join(f"def test_{n}(klom):\n    klom.check({score.format(n)})\n" for n in "ab")
    result = scored(text=CODE + tests)
    result.assert_outcomes(failed=2)
    assert len([line for line in result.outlines if line.startswith("::error ")]) == 2


def test_a_fixture_of_another_that_is_called_klom_is_left_alone(project, pytester):
    text = (
        "import pytest\n@pytest.fixture\ndef klom(): return 3\ndef test(klom): assert klom == 3\n"
    )
    pytester.makepyfile(test_mine=text)
    project("-m", "not klom_margins").assert_outcomes(passed=1)
