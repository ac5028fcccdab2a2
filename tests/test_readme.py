"""README's code, run as it stands there."""

import inspect
import re
from pathlib import Path

import pytest

from klom_bench.plugin import hookspec

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(holding):
    (found,) = [b for b in re.findall(r"```python\n(.*?)```", TEXT, re.S) if holding in b]
    return found


@pytest.mark.parametrize("holding", ["# conftest.py", "@klom_bench.per_model"])
def test_a_method_of_ones_own(project, holding):
    conftest = "import klom_bench, pytest, torch\n" + block(holding)
    result = project("--klom-method=my_method", "--klom-forget-set=1", conftest=conftest)
    result.assert_outcomes(passed=1)


def test_a_method_that_builds_on_another(project):
    (line,) = re.findall(r"`(def gentle.*?)`", TEXT)
    conftest = f"import functools, pytest\n@pytest.fixture\n{line}"
    project("--klom-method=gentle", "--klom-forget-set=1", conftest=conftest).assert_outcomes(
        passed=1
    )


def test_hooks(project):
    task = inspect.getdoc(hookspec.pytest_klom_tasks)
    conftest = block("pytest_klom_forget_sets") + "\n" + task[task.index("def ") :]
    for task, forget_set in (("digits", "my_set"), ("blobs", "first_ten")):
        result = project(
            "--klom-method=ga",
            f"--klom-task={task}",
            f"--klom-forget-set={forget_set}",
            conftest=conftest,
        )
        result.assert_outcomes(passed=1)


def test_gates(project):
    (toml,) = re.findall(r"```toml\n(.*?)```", TEXT, re.S)
    conftest = block("# conftest.py")
    result = project(
        "--klom-method=my_method", "--klom-forget-set=3", conftest=conftest, pyproject=toml
    )
    result.assert_outcomes(failed=1)  # at N = 4 these limits lie in the noise
    result.stdout.fnmatch_lines(
        ["*forget_mean*limit 1.5: inconclusive*", "*val_p95: the limit 1.5*"]
    )


def test_names_every_option_and_method():
    from klom_bench.methods import BUILT_IN
    from klom_bench.plugin.options import OPTIONS

    for name in (*OPTIONS, "plan", "list", "save_baseline"):
        assert f"--klom-{name.replace('_', '-')}" in TEXT
    for name in BUILT_IN:
        assert f"`{name}`" in TEXT
    assert len(TEXT.splitlines()) < 400


def test_the_workflow(project, pytester):
    """Its pytest commands run as they stand, but for fewer models, no workers and no GPU."""
    (text,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.S)
    smoke, full = re.findall(r"- run: pytest test_unlearning.py (.*)", text)
    conftest = block("# conftest.py")
    saved = re.search(r"pytest (.*--klom-save-baseline=\S+)", TEXT)[1]
    project(*saved.split(), conftest=conftest).assert_outcomes(passed=11)
    for line, tests in ((smoke, 3), (full, 11)):
        args = line.replace("-n auto", "").replace("--klom-device=cuda", "").split()
        result = project(*args, conftest=conftest)
        result.assert_outcomes(passed=tests)
        assert (pytester.path / "klom.xml").exists()
    assert (pytester.path / "klom.json").exists()
    assert "path: .klom-store" in text


def test_regressions(project):
    first, second = re.findall(r"^pytest (--klom-method=my_method .*)$", TEXT, re.M)
    conftest = block("# conftest.py")
    for line in (first, second):
        args = [*line.partition("#")[0].split(), "--klom-forget-set=1"]
        project(*args, conftest=conftest).assert_outcomes(passed=1)


def test_conformance(project, pytester):
    """README's methods hold, and its docstring words are those that are known."""
    pytester.makepyfile(test_mine="from klom_bench.suite import test_conformance")
    for holding in ("# conftest.py", "@klom_bench.per_model"):
        conftest = "import klom_bench, pytest, torch\n" + block(holding)
        project("--klom-method=my_method", conftest=conftest).assert_outcomes(passed=1)
    for word in ("Trains", "Resets", "Sees", "BatchNorm"):
        assert re.search(rf"^{word}: ", TEXT, re.M)
