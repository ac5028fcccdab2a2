"""Tasks and methods of entry points and of a pyproject.toml, by pytest."""

import sys

import pytest
from helpers.packages import METHOD, TASK, install

BLOBS = ("--klom-task=blobs", "--klom-method=ga")
ONE = ("--klom-method=ga", "--klom-forget-set=1")
HOOK = "def pytest_klom_tasks(config):\n    from {} import blobs\n    return [blobs]\n"


@pytest.fixture
def named(project, pytester, monkeypatch):
    """Run pytest where pyproject.toml has this in [tool.klom]; mine.py has a task and a method."""
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of a test that was here before
    (pytester.path / "mine.py").write_text(TASK + METHOD)

    def run(table, *args, conftest=""):
        return project(*args, conftest=conftest, pyproject=f"[tool.klom]\n{table}")

    return run


def test_what_pyproject_names_is_found(named):
    table = 'tasks = ["mine:several", "mine:blobs"]\nmethods = ["mine:halves"]\n'
    gate = "[tool.klom.gates.halves.first_ten]\nforget_mean = 11\n"
    asked = ("--klom-task=blobs", "--klom-method=halves", "--klom-param=halves.by=0.9")
    result = named(table + gate, *asked)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["klom: halves on blobs (1 forget sets)*", "*halves * within limits*"]
    )
    result = named(table, "--klom-list")
    result.stdout.fnmatch_lines(
        ["  first: 300 train points; *", "  blobs: 300*", "  halves: Mult*", "    by = 0.5"]
    )


def test_what_a_package_names_is_found_and_nothing_else_is_imported(project, site):
    tasks = ["blobs = theirs:blobs", "broken = broken:task"]
    install(site, tasks=tasks, methods=["halves = theirs:halves", "bad = broken:bad"])
    (site / "theirs.py").write_text(TASK + METHOD)
    (site / "broken.py").write_text("1 / 0")
    project(*ONE).assert_outcomes(passed=1)
    project("--klom-task=blobs", "--klom-method=halves").assert_outcomes(passed=1)
    reason = "(broken:{}): ZeroDivisionError: division by zero (broken.py, line 1)"
    for asked, name in (
        (["--klom-method=ga", "--klom-task=broken"], "task"),
        (["--klom-method=bad", "--klom-forget-set=1"], "bad"),
        (["--klom-list"], "task"),
    ):
        result = project(*asked)
        assert result.ret == 4
        assert result.stderr.str().startswith("ERROR: the entry point ")
        assert reason.format(name) in result.stderr.str()
        assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_forget_sets_that_gates_name_may_be_of_a_package(project, site):
    install(site, tasks=["blobs = theirs:blobs", "broken = broken:task"])
    (site / "theirs.py").write_text(TASK)
    (site / "broken.py").write_text("1 / 0")
    known = "[tool.klom.gates.ga.first_ten]\nforget_mean = 11"
    project(*ONE, pyproject=known).assert_outcomes(passed=1)
    (site / "broken.py").write_text(TASK.replace("first_ten", "others") + "task = named('broken')")
    result = project(*ONE, pyproject=known.replace("ten", "tem"))
    result.stderr.fnmatch_lines(["*unknown forget set 'first_tem': did you mean first_ten*"])


@pytest.mark.parametrize("by", ["entry point", "pyproject"])
def test_a_hook_of_the_same_name_is_told(named, site, by):
    """Whichever task is asked for: one of them would be hidden."""
    (site / "theirs.py").write_text(TASK)
    if by == "entry point":
        install(site, tasks=["blobs = theirs:blobs"])
    table = 'tasks = ["mine:blobs"]' if by == "pyproject" else ""
    for asked in (BLOBS, ONE, ["--klom-list"]):
        result = named(table, *asked, conftest=HOOK.format("theirs"))
        assert result.ret == 4
        where = {"entry point": "the entry point 'blobs' of my-package (theirs:blobs)"}
        where = where.get(by, "[[]tool.klom] tasks of */pyproject.toml (mine:blobs)")
        hook = "the hook pytest_klom_tasks"
        first, second = (hook, where) if by == "entry point" else (where, hook)
        result.stderr.fnmatch_lines(
            [f"ERROR: two tasks are named 'blobs', by {first} and by {second}: rename or remove *"]
        )


def test_two_methods_of_a_name_are_told(named, site):
    install(site, methods=["halves = theirs:halves"])
    result = named('methods = ["mine:halves"]', *ONE)
    assert result.ret == 4
    result.stderr.fnmatch_lines(["ERROR: two methods are named 'halves', by [[]tool.klom] *"])


FIXTURE = """
import sys

import pytest

@pytest.fixture
def halves(ga):
    return ga
"""


def test_a_fixture_takes_the_place_of_a_method_that_is_found(named):
    """As of a built-in one; what it hides is not imported."""
    asked = ("--klom-method=halves", "--klom-forget-set=1", "--klom-param=epochs=1")
    named('methods = ["nowhere:halves"]', *asked, conftest=FIXTURE).assert_outcomes(passed=1)


def test_a_method_named_like_a_built_in_one_has_its_own_settings(named):
    table = 'methods = ["mine:ga"]'
    named(table, *ONE, "--klom-param=by=0.9").assert_outcomes(passed=1)
    result = named(table, *ONE, "--klom-param=lr=0.9")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*ga: unknown hyperparameter 'lr': *known are by"])


def test_hooks_add_forget_sets_to_what_is_found(named):
    hook = "def pytest_klom_forget_sets(config, task):\n    return {'mine': [1, 2, 3]}\n"
    result = named('tasks = ["mine:blobs"]', *BLOBS, conftest=hook)
    result.assert_outcomes(passed=2)


def test_without_a_method_nothing_is_read(named, pytester):
    pytester.makepyfile(test_mine="def test_other(): pass")
    assert named('tasks = ["nowhere:task"]').ret == 0
    assert named("tasks = 3").ret == 0


@pytest.mark.processes
def test_workers_of_xdist_find_them(named):
    table = 'tasks = ["mine:blobs"]\nmethods = ["mine:halves"]'
    asked = ("--klom-task=blobs", "--klom-method=halves", "-n1")
    named(table, *asked).assert_outcomes(passed=1)
