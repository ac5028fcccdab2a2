"""README's code, run as it stands there."""

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(holding):
    (found,) = [b for b in re.findall(r"```python\n(.*?)```", TEXT, re.S) if holding in b]
    return found


@pytest.mark.parametrize("holding", ["# conftest.py", "@per_model"])
def test_a_method_of_ones_own(project, holding):
    conftest = "import pytest, torch\n" + block(holding)
    result = project("--klom-method=my_method", "--klom-forget-set=1", conftest=conftest)
    result.assert_outcomes(passed=1)


def test_a_method_that_builds_on_another(project):
    (line,) = re.findall(r"`(def gentle.*?)`", TEXT)
    conftest = f"import functools, pytest\n@pytest.fixture\n{line}"
    project("--klom-method=gentle", "--klom-forget-set=1", conftest=conftest).assert_outcomes(
        passed=1
    )


def test_hooks(project):
    conftest = block("pytest_klom_tasks")
    for task, forget_set in (("digits", "my_set"), ("blobs", "first_ten")):
        result = project(
            "--klom-method=ga", f"--klom-task={task}", f"--klom-forget-set={forget_set}",
            conftest=conftest,
        )  # fmt: skip
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
    from klom_bench.plugin.options import _HELP

    for name in (*_HELP, "plan", "list"):
        assert f"--klom-{name.replace('_', '-')}" in TEXT
    for name in BUILT_IN:
        assert f"`{name}`" in TEXT
    assert len(TEXT.splitlines()) < 400
