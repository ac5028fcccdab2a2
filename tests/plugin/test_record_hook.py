"""pytest_klom_record: who is called with what, when, and what happens where it raises."""

import inspect
import json

import pytest
from helpers.made_up import CODE
from helpers.processes import WORKERS
from helpers.records import records

from klom_bench.plugin import hookspec

TWO = ("--klom-method=ga,do_nothing", "--klom-forget-set=3", "--klom-models=6")
WRITES = """
import json, os, pathlib

def pytest_klom_record(record):
    with open("told", "a") as file:
        print(json.dumps([os.getpid(), record.to_json()]), file=file)

def pytest_runtest_logfinish(nodeid):
    with open("told", "a") as file:
        print(json.dumps([os.getpid(), "the end of a test"]), file=file)

def pytest_terminal_summary():
    with open("told", "a") as file:
        print(json.dumps([os.getpid(), "the end"]), file=file)
"""
RAISES = """
import pytest

def pytest_klom_record(record, config):
    if record.method == "ga":
        raise ConnectionError("no server")
    (config.rootpath / "told").write_text(record.method)
"""


def told(pytester):
    """What was written in the one process that has records, in its order."""
    lines = [json.loads(line) for line in (pytester.path / "told").read_text().splitlines()]
    (reporting,) = {process for process, what in lines if isinstance(what, dict)}
    return [what for process, what in lines if process == reporting]


@pytest.mark.parametrize("workers", WORKERS)
def test_each_record_is_handed_over_as_its_test_ends(project, pytester, workers):
    files = ("--benchmark-json=out.json", "--klom-history-json=chart.json")
    asked = (*TWO, *files, "--klom-max=forget_excess=9", *workers)
    project(*asked, conftest=WRITES, alone=bool(workers)).assert_outcomes(passed=2)
    what = told(pytester)
    found = [part for part in what if isinstance(part, dict)]
    assert found == records(pytester.path / "out.json")
    assert [type(part) for part in what] == [*[dict, str] * 2, str]
    assert all(record["verdict"] == "pass" for record in found)
    assert len(json.loads((pytester.path / "chart.json").read_text())) == 12


def test_with_gates_judged_together_it_is_at_the_end_with_final_verdicts(project, pytester):
    asked = ("--klom-family=holm", "--klom-max=forget_excess=9", "--benchmark-json=out.json")
    project(*TWO, *asked, conftest=WRITES).assert_outcomes(passed=2)
    what = told(pytester)
    assert [type(part) for part in what] == [str, str, dict, dict, str]
    assert [part for part in what if isinstance(part, dict)] == records(pytester.path / "out.json")


def test_of_margins_without_a_method(project, pytester):
    score = "klom.score(oracle=models(8, 1), unlearned=models(8, 2), **USUAL, name='{0}')"
    tests = "\n".join(f"def test_{n}(klom):\n    {score.format(n)}" for n in ("one", "two"))
    pytester.makepyfile(test_mine=CODE + tests)
    project("-p", "no:randomly", conftest=WRITES).assert_outcomes(passed=2)
    what = told(pytester)
    names = [part["forget_set"] if isinstance(part, dict) else part for part in what]
    end = "the end of a test"
    assert names == ["one", end, "two", end, "the end"]


def test_what_it_raises_is_shown_and_loses_nothing(project, pytester):
    both = ("--klom-family=none", "--klom-family=holm")  # as tests end, and at the end
    for family in both:
        asked = (family, "--klom-max=val_excess=9", "--benchmark-json=out.json")
        result = project(*TWO, *asked, conftest=RAISES)
        result.assert_outcomes(passed=2)
        assert result.ret == 1
        result.stdout.fnmatch_lines(
            [
                "Traceback *",
                '  File "*conftest.py", line 5, in pytest_klom_record',
                "ConnectionError: no server",
                "2 of 2 tests measured: 2 within limits",
                "error: pytest_klom_record raised what stands above with the record of digits-*-ga",
            ],
            consecutive=False,
        )
        assert "_multicall" not in result.stdout.str()
        assert (pytester.path / "told").read_text() == "do_nothing"
        (pytester.path / "told").unlink()
        assert len(records(pytester.path / "out.json")) == 2


def test_its_example(project, pytester):
    text = inspect.getdoc(hookspec.pytest_klom_record)
    asked = (*TWO, "--benchmark-json=out.json")
    project(*asked, conftest=text[text.index("def ") :]).assert_outcomes(passed=2)
    lines = (pytester.path / "scores.csv").read_text().splitlines()
    assert lines == [
        f"{of['method']},forget_set_3,{of['excess']['forget']['value']},{of['word']}"
        for of in records(pytester.path / "out.json")
    ]


def test_it_may_end_the_run(project, pytester):
    conftest = "import pytest\n\ndef pytest_klom_record(record):\n    pytest.exit('enough', 7)\n"
    result = project(*TWO, "--benchmark-json=out.json", conftest=conftest)
    assert result.ret == 7
    assert len(records(pytester.path / "out.json")) == 1
