"""`klom new`: what it writes runs as it stands, by the commands that it names."""

import re
import shlex

import pytest

from klom_bench.cli.command import build_parser
from klom_bench.cli.common import task_named
from klom_bench.tuning.ranges import what_is_tuned
from klom_bench.tuning.sets import with_tuning_sets


@pytest.fixture
def here(pytester, monkeypatch, tmp_path):
    """The folder in which one stands, and a store of its own."""
    monkeypatch.setenv("KLOM_STORE", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)  # which is undone, with all that is put there
    return pytester.path


def followed(out, here):
    """Do what `klom new` says: write the two files; its commands."""
    lines = [line[2:] for line in out.splitlines() if line.startswith("  ")]
    table, test, *commands = lines[:2], lines[2], *lines[3:]
    assert table[0] == "[tool.klom]"
    (here / "pyproject.toml").write_text("\n".join(table))
    (here / "test_unlearning.py").write_text(test)
    return [
        shlex.split(re.sub(r"models([ =])10", r"models\g<1>2", command)) for command in commands
    ]


def test_a_task_runs_as_it_stands(run, here, pytester):
    code, out, err = run("new", "task", "blobs")
    assert (code, err) == (0, "")
    assert out.startswith(f"blobs.py was written. Name it in {here / 'pyproject.toml'}:\n")
    train, test = followed(out, here)
    assert train[:3] == ["klom", "train", "blobs"]
    code, out, _ = run(*train[1:])
    assert (code, out.split(" members")[0]) == (0, "6 of 6")
    assert test[:3] == ["pytest", "--klom-task=blobs", "--klom-method=ga"]
    result = pytester.runpytest_inprocess(*test[1:], "--klom-missing=error")
    result.assert_outcomes(passed=3)
    assert with_tuning_sets(task_named("blobs")).size("tuning_3") == 100  # so it can be tuned on


def test_a_method_runs_as_it_stands(run, here, pytester, small_store, monkeypatch):
    monkeypatch.setenv("KLOM_STORE", str(small_store))
    (here / "of_mine").mkdir()
    _, out, _ = run("new", "method", "forgetful", "--output", "of_mine/new.py")
    test, tune = followed(out, here)
    assert "of_mine.new:forgetful" in (here / "pyproject.toml").read_text()
    assert test[:2] == ["pytest", "--klom-method=forgetful"]
    result = pytester.runpytest_inprocess(*test[1:], "--klom-forget-set=1")
    result.assert_outcomes(passed=2)
    assert tune[0] == "klom"
    args = build_parser().parse_args(tune[1:])
    ((method, ranges),) = what_is_tuned(args.methods, {})
    assert (method.name, {*ranges}) == ("forgetful", {"lr", "epochs", "batch_size"})


def test_what_is_named_already_stays_named(run, here):
    (here / "pyproject.toml").write_text('[tool.klom]\ntasks = ["blobs:task"]')
    assert "(blobs:task): ModuleNotFoundError" in run("new", "task", "more")[2]
    assert run("new", "method", "m")[0] == 0
    (here / "pyproject.toml").write_text('[tool.klom]\nmethods = ["m:m"]')
    out = run("new", "method", "more")[1]
    assert '\n  methods = ["m:m", "more:more"]\n' in out


def test_nothing_is_overwritten(run, here):
    (here / "blobs.py").write_text("mine")
    code, out, err = run("new", "task", "blobs")
    assert (code, out) == (1, "")
    assert err == "klom new: blobs.py is there already, and is kept: --output names another\n"
    assert (here / "blobs.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["task", "digits"], "there is a task digits already: `klom list` names all; choose"),
        (["method", "ga"], "there is a method ga already"),
        (["task", "3d"], "'3d' is no name for a task: letters, digits and underscores are, as m"),
        (["method", "my-method"], "'my-method' is no name for a method"),
        (["method", "class"], "'class' is no name for a method"),
        (["task", "json"], "json.py would hide the module json: --output names another file"),
        (["task", "a", "--output", "my-task.py"], "my-task.py cannot be imported: name it as in"),
        (["task", "a", "--output", "a.txt"], "a.txt cannot be imported"),
        (["task", "a", "--output", "../a.py"], "../a.py would not lie in "),
        (["task", "a", "--output", "no/a.py"], "no/a.py: No such file or directory"),
    ],
)
def test_other_names_and_files_are_told(run, here, args, message):
    code, out, err = run("new", *args)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"klom new: {message}")
    assert not list(here.glob("*.py"))
