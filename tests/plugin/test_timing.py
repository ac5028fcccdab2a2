"""What pytest-benchmark records of a KLOM test: the unlearning alone, by the timer asked for."""

import json

import pytest

CONFTEST = """
import pytest
from ticking import moved

@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setattr("klom_bench.cell.rounds.import_compiler", lambda: None)  # 2 s a process
    def slow(model, forget, retain):
        moved(by=1)
        def outputs(x):
            moved(by=100)
            return 2 * model(x)
        yield outputs
    return slow


"""
TICKING = """
time = 0.0

def now():
    return time

def moved(by):
    global time
    time += by
"""
MARKED = """
import pytest
import ticking
from klom_bench.suite import test_klom

pytestmark = pytest.mark.benchmark(group="mine", timer=ticking.now)
"""


@pytest.mark.parametrize(
    ("asked", "workers"), [("option", ()), ("marker", ()), ("marker", ("-n", "1"))]
)
def test_evaluation_is_not_timed(project, pytester, asked, workers):
    pytester.syspathinsert()
    pytester.makepyfile(ticking=TICKING)
    options = ["--benchmark-timer=ticking.now"]
    if asked == "marker":
        pytester.makepyfile(test_mine=MARKED)
        options = []
    given = ("--klom-method=slow", "--klom-forget-set=3", "--benchmark-json=x.json")
    result = project(*given, *options, *workers, conftest=CONFTEST)
    result.assert_outcomes(passed=1)
    (found,) = json.loads((pytester.path / "x.json").read_bytes())["benchmarks"]
    assert found["stats"]["data"] == [1]
    assert found["options"]["timer"] == "now"
    assert found["group"] == ("mine" if asked == "marker" else None)
    assert 0 < found["extra_info"]["klom"]["seconds"]["unlearn"] < 1
