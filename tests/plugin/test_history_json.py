"""--klom-history-json: what github-action-benchmark reads."""

import json
import re

import pytest
from helpers.made_up import CODE
from helpers.records import records

ASKED = ("--klom-method=ga", "--klom-param=lr=0.1,0.3", "--klom-forget-set=1", "--klom-models=6")
METRICS = [f"{split}_{of}" for of in ("excess", "p95") for split in ("forget", "retain", "val")]


def chart(path):
    """Its entries by name, which must be as extract.ts of the action says: no two alike."""
    entries = json.loads(path.read_text(), parse_constant=pytest.fail)
    found = {entry["name"]: entry for entry in entries}
    assert len(found) == len(entries)
    for entry in entries:
        assert entry.keys() <= {"name", "unit", "value", "range", "extra"}
        assert isinstance(entry["value"], int | float)
        texts = {key: text for key, text in entry.items() if key != "value"}
        assert all(isinstance(text, str) for text in texts.values())
    return found


def test_it_has_every_number_with_its_error(project, pytester):
    result = project(*ASKED, "--klom-history-json=chart.json", "--benchmark-json=run.json")
    result.assert_outcomes(passed=2)
    assert f"history saved: {pytester.path / 'chart.json'} (12 numbers)" in result.outlines
    found = chart(pytester.path / "chart.json")
    for record in records(pytester.path / "run.json"):
        for metric in METRICS:
            entry = found.pop(f"digits-forget_set_1-ga:{record['setting']} {metric}")
            split, _, of = metric.partition("_")
            error = record["excess"][split] if of == "excess" else record["errors"][split][of]
            assert entry["unit"] == "nats"
            assert entry["value"] == pytest.approx(error["value"], abs=1e-4)
            away = float(re.fullmatch(r"± ([\d.]+)", entry["range"])[1])
            assert away == pytest.approx((error["high"] - error["low"]) / 2, abs=1e-4)
            for line in (
                "6 unlearned against 6 oracles",
                "estimator default, seed 0",
                record["setting"].replace("=", " = "),
                record["word"],
            ):
                assert line in entry["extra"].splitlines()
    assert not found


def test_there_is_nothing_where_there_is_no_number(project, pytester):
    """Two models have no excess; what fails has nothing at all."""
    conftest = """
        import pytest

        @pytest.fixture
        def mine():
            def unlearn(model, forget, retain):
                raise ZeroDivisionError
                yield
            return unlearn
    """
    asked = ("--klom-method=ga,mine", "--klom-forget-set=1", "--klom-models=2")
    result = project(*asked, "--klom-history-json=chart.json", conftest=conftest)
    result.assert_outcomes(passed=1, failed=1)
    assert [*chart(pytester.path / "chart.json")] == [
        f"digits-forget_set_1-ga {split}_p95" for split in ("forget", "retain", "val")
    ]


def test_of_margins_without_a_method(project, pytester):
    pytester.makepyfile(
        test_mine=CODE
        + """
def test_good(klom):
    klom.check(klom.score(oracle=models(8, 1), unlearned=models(8, 2), **USUAL, name="good"))
"""
    )
    project("--klom-history-json=chart.json").assert_outcomes(passed=1)
    found = chart(pytester.path / "chart.json")
    assert [*found] == [f"margins-good-margins {metric}" for metric in METRICS]


def test_what_only_shows_writes_nothing(project, pytester):
    project(*ASKED, "--klom-history-json=chart.json", "--collect-only")
    project(*ASKED, "--klom-history-json=chart.json", "--klom-plan")
    assert not (pytester.path / "chart.json").exists()


def test_a_file_that_cannot_be_written_is_refused_or_makes_the_run_red(project, pytester):
    refused = project(*ASKED, "--klom-history-json=gone/chart.json")
    assert refused.ret == 4
    refused.stderr.fnmatch_lines(["ERROR: --klom-history-json: *chart.json cannot be written: *"])
    conftest = """
        def pytest_runtest_logreport():
            import pathlib
            pathlib.Path("chart.json").mkdir(exist_ok=True)
    """
    result = project(*ASKED, "--klom-history-json=chart.json", conftest=conftest)
    result.assert_outcomes(passed=2)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["error: --klom-history-json: *chart.json not written (Is a dir*"])


def test_it_needs_something_that_is_measured(project):
    result = project("--klom-history-json=chart.json")
    result.stderr.fnmatch_lines(["ERROR: --klom-history-json needs --klom-method*"])
