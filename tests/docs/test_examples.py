"""The examples of README and the pages, run as they stand there; only with fewer models."""

import inspect
import re
from itertools import takewhile

import numpy as np
import pytest
from helpers.markdown import README, block, blocks, text_of

from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor
from klom_bench.plugin import hookspec
from klom_bench.plugin.pages import DOCS

CONFTESTS = {
    f"{page.stem} {number}": code
    for page in (README, DOCS / "method.md")
    for number, code in enumerate(
        code for code in blocks(page, "python") if code.startswith("# conftest.py\n")
    )
}
MINE = CONFTESTS["README 0"]
ONE = ("--klom-method=my_method", "--klom-forget-set=1")


@pytest.mark.parametrize("conftest", CONFTESTS.values(), ids=CONFTESTS)
def test_methods(project, conftest):
    project(*ONE, conftest=conftest).assert_outcomes(passed=1)


@pytest.mark.parametrize("page", [README, DOCS / "method.md"], ids=lambda page: page.stem)
def test_conformance(project, pytester, page):
    """The first method of a page does what it says, by the test file of that page."""
    first = CONFTESTS[f"{page.stem} 0"]
    file = block(page, "python", "# test_unlearning.py")
    pytester.makepyfile(test_mine=file)
    project(*ONE, conftest=first).assert_outcomes(passed=2)


def test_one_model_at_a_time_conforms(project, pytester):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_conformance")
    both = [c for c in CONFTESTS.values() if "per_model" in c]
    assert len(both) == 2
    for conftest in both:
        project("--klom-method=my_method", conftest=conftest).assert_outcomes(passed=1)


def test_the_words_of_docstrings_are_those_that_are_checked():
    from klom_bench.conformance import claims

    page = block(DOCS / "method.md", "", "Trains: ")
    said = set(re.findall(r"^([A-Z][\w ]+): ", page, re.M))
    known = inspect.getsource(claims)
    assert said == {"Trains", "Resets", "Sees", "BatchNorm", "Tried with"}
    assert all(word in known for word in said)


def test_tasks_and_forget_sets(project, pytester):
    page = DOCS / "task.md"
    conftest = (
        block(page, "python", "klom_forget_sets") + "\n\n" + block(page, "python", "klom_tasks")
    )
    (pytester.path / "tumours.py").write_text(block(page, "python", "# tumours.py"))
    toml = block(page, "toml", "tumours:task")
    for line in re.findall(r"^pytest (.*)$", text_of(page), re.M):
        store = "--klom-store=of_the_page"  # other tests name tasks alike
        asked = (*line.split(), "--klom-models=2", store)
        result = project(*asked, conftest=conftest, pyproject=toml)
        result.assert_outcomes(passed=1 + line.count("ga,finetune"))


def test_the_training_that_stops_early(project, pytester):
    page = DOCS / "task.md"
    text, train = block(page, "python", "# tumours.py"), block(page, "python", "DataLoader")
    first, end = text.index("@per_model"), text.index("task = Task(")
    (pytester.path / "tumours.py").write_text(text[:first] + train + text[end:])
    toml = block(page, "toml", "tumours:task")
    asked = ("--klom-task=tumours", "--klom-method=ga", "--klom-models=2", "--klom-store=early")
    result = project(*asked, pyproject=toml)
    result.assert_outcomes(passed=1)


def test_the_hooks_say_the_same_as_the_page():
    page = text_of(DOCS / "task.md")
    text = inspect.getdoc(hookspec.pytest_klom_tasks)
    assert text[text.index("def ") :] in page


@pytest.mark.parametrize("page", [README, DOCS / "gates.md"], ids=lambda page: page.stem)
def test_gates(project, page):
    toml = blocks(page, "toml")[0]
    asked = ("--klom-method=my_method", "--klom-forget-set=3", "--klom-models=6")
    result = project(*asked, conftest=MINE, pyproject=toml)
    result.assert_outcomes(failed=1)
    limits = dict(re.findall(r"^(\w+_excess) = ([\d.]+)", toml, re.M))
    assert len(limits) == 2
    text = result.stdout.str()
    for metric, limit in limits.items():
        assert re.search(rf"  {metric}: .*\(surely .* the limit {limit}: ", text)


def test_limits_of_a_marker(project, pytester):
    pytester.makepyfile(test_mine=block(DOCS / "gates.md", "python", "pytestmark"))
    result = project(*ONE, conftest=MINE)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*val_mean: the limit 0.6*"])


@pytest.mark.parametrize("page", [README, DOCS / "gates.md"], ids=lambda page: page.stem)
def test_regressions(project, page):
    text = text_of(page)
    lines = re.findall(
        r"^pytest (--klom-method=my_method --klom-(?:save-)?baseline=.*)$", text, re.M
    )
    assert len(lines) == 2
    for line in lines:
        args = [*line.partition("#")[0].split(), "--klom-forget-set=1"]
        project(*args, conftest=MINE).assert_outcomes(passed=1)


def test_the_workflow(project, pytester):
    """Its pytest commands run as they stand, but for fewer models, no workers and no GPU."""
    page = DOCS / "gates.md"
    text = block(page, "yaml")
    smoke, full = re.findall(r"- run: pytest test_unlearning.py (.*)", text)
    saved = re.search(r"pytest (.*--klom-save-baseline=\S+)", text_of(page))[1]
    three = "--klom-forget-set=1,3,5"
    project(*saved.split(), three, conftest=MINE).assert_outcomes(passed=3)
    for line in (smoke, f"{full} {three}"):
        args = line.replace("-n auto", "").replace("--klom-device=cuda", "").split()
        project(*args, conftest=MINE).assert_outcomes(passed=3)
        assert (pytester.path / "klom.xml").exists()
    assert (pytester.path / "klom.json").exists()
    assert "path: .klom-store" in text


def test_margins_of_scikit_learn(project, pytester):
    page = DOCS / "gates.md"
    pytester.makepyfile(test_mine=block(page, "python", "# test_margins.py"))
    (asked,) = re.findall(r"^pytest test_margins.py (.*)$", text_of(page), re.M)
    result = project(*asked.split(), pyproject=block(page, "toml", "gates.margins"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "forget_excess *, limit 2: fail*",
            "*val_excess: * the limit 0.5: fail",
            "*forgets in part*",
        ]
    )
    said = re.search(r"`forget_excess` ([\d.]+), where doing nothing has ([\d.]+)", text_of(page))
    shown = re.search(
        r"forget_excess: ([\d.]+) .*\n.*doing nothing has ([\d.]+)", result.stdout.str()
    )
    assert [float(n) for n in said.groups()] == pytest.approx(
        [*map(float, shown.groups())], rel=0.1
    )


def test_from_python(tmp_path, monkeypatch, capsys):
    """The page is one script; 6 models instead of 100, as other tests have."""
    monkeypatch.chdir(tmp_path)
    page = "\n".join(blocks(DOCS / "python.md", "python")).replace("[3, 5]", "[3]")
    code = re.sub(r"(klom_bench\.run\(.*?)(, models=100)?\)(:|\n)", r"\1, models=6)\3", page)
    assert code.count("models=6") == code.count("klom_bench.run(") == 4
    exec(code, {})
    out = capsys.readouterr().out
    for expected in ("forget_set_3", "worst forget points: [", "val_excess", "lr=0.3", "'p100'"):
        assert expected in out
    assert "unsir unsir unlearns whole classes only" in out
    assert 10_000 < (tmp_path / "record.json").stat().st_size < 17_000


def test_the_metric():
    names = {}
    exec(block(DOCS / "metric.md", "python"), names)
    expected = floor(ESTIMATORS["default"], 100, 100)
    assert names["scores"].mean() == pytest.approx(expected.mean, rel=0.15)


def test_the_table_of_floors():
    page = text_of(DOCS / "metric.md")
    ns, floors = (
        [float(cell) for cell in re.findall(r"\| ([\d.]+)(?= \|)", line)]
        for line in re.findall(r"^\| (?:N|floor, P95 .*?) (\|.*)$", page, re.M)
    )
    found = [floor(ESTIMATORS["default"], int(n), int(n)).p95 for n in ns]
    assert len(ns) == 5
    assert np.allclose(found, floors, atol=0.06)


@pytest.mark.parametrize("page", [README, DOCS / "reading.md"], ids=lambda page: page.stem)
def test_the_table_looks_as_it_is_shown(project, page):
    """Heads, and the names of rows: the numbers are those of N = 100."""
    shown = block(page, "", "oracles, p" if page is README else "KLOM P95").splitlines()
    lines = project("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6").outlines
    for name, counts in (("KLOM mean", (9, 10)), ("excess", (3, 6, 9))):
        if any(name in line for line in shown):
            compare(shown, lines, name, counts)


def compare(shown, lines, name, counts):
    """counts: of numbers that a row may have."""
    head = next(i for i, line in enumerate(lines) if line.startswith("forget set") and name in line)
    start = next(i for i, s in enumerate(shown) if s.startswith("forget set") and name in s)
    for row in range(5):
        mine, real = shown[start + row].split(), lines[head + row].split()
        assert mine[: len(mine) if row < 2 else 1] == real[: len(real) if row < 2 else 1]
    for mine in takewhile(str.strip, shown[start:]):  # each row has as many numbers as a real one
        numbers = len(re.findall(r" \d+\.\d+", mine))
        assert numbers in (0, *counts)
