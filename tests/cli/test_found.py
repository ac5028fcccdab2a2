"""Tasks and methods of entry points and of a pyproject.toml, by the commands of `klom`."""

import json
import subprocess
import sys

import pytest
from helpers.packages import METHOD, TASK, install


@pytest.fixture
def here(site, tmp_path, monkeypatch):
    """A project's folder, in which one stands; `here(text)` writes its [tool.klom]."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "bad"):  # of a test that was here before
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "mine.py").write_text(TASK + METHOD)

    def write(text):
        (tmp_path / "pyproject.toml").write_text(f"[tool.klom]\n{text}\n")
        return tmp_path

    return write


@pytest.fixture
def store(tmp_path):
    return ["--store", tmp_path / "store"]


def test_every_command_finds_them(run, here, site, store):
    folder = here('tasks = ["mine:several"]\nmethods = ["mine:halves"]')
    install(site, tasks=["blobs = theirs:blobs [cuda]"], methods=["thirds = theirs:halves"])
    (site / "theirs.py").write_text(TASK + METHOD)
    asked = ["--models", "2", "--oracles", "0", *store]
    code, out, _ = run("train", "first", "blobs", *asked)
    assert (code, out) == (0, f"4 of 4 members are in {folder / 'store'}\n")
    found = json.loads(run("list", "--json", *store)[1])
    assert {"digits", "first", "second", "blobs"} <= {*found["tasks"]}
    assert found["tasks"]["first"]["forget_sets"] == {"first_ten": 10}
    assert found["methods"]["halves"] == found["methods"]["thirds"] == {"by": 0.5}
    assert "\nthirds " in run("list", "--methods")[1]
    assert "  halves: Multiplies all weights.\n    by = 0.5\n" in run("list", *store)[1]
    code, out, _ = run("verify", *store)
    assert (code, out.count("\n")) == (0, 3), out
    assert run("export", "published", "blobs", "--models", "2", *store)[0] == 0
    assert "ok      blobs: originals, 2 members" in run("verify", "--store", "published")[1]
    assert run("download", "blobs", *store)[2].startswith("klom download: blobs is not published")
    code, out, _ = run("remove", "first", "--yes", *store)
    assert (code, out.splitlines()[-1]) == (0, "removed")


def test_methods_are_tuned_by_their_names(run, here, store):
    here('tasks = ["mine:blobs"]\nmethods = ["mine:halves"]')
    few = ["--models", "4", "--trials", "1", "--range", "by=0.1..0.9", *store]
    code, out, _ = run("tune", "halves", "--task", "blobs", *few)
    assert code == 0
    assert "\n  pytest --klom-task=blobs --klom-method=halves --klom-tuned=" in out
    assert "fixture" not in out  # none is needed
    err = run("tune", "halvs", *few)[2]
    assert err.startswith("klom tune: unknown method 'halvs': did you mean halves?")


def test_entry_points_are_imported_when_they_are_asked_for(run, here, site, small_store):
    here("gates = {}")
    install(site, tasks=["blobs = theirs:blobs", "broken = broken:task"])
    (site / "theirs.py").write_text(TASK)
    (site / "broken.py").write_text("1 / 0")
    args = ["--models", "2", "--oracles", "0", "--store", small_store]
    assert run("train", "digits", *args)[0] == 0
    assert not {"theirs", "broken"} & {*sys.modules}
    assert run("train", "blobs", *args)[0] == 0
    assert "theirs" in sys.modules
    code, out, err = run("list")
    assert (code, out) == (1, "")
    assert err == (
        "klom list: the entry point 'broken' of my-package (broken:task): "
        "ZeroDivisionError: division by zero (broken.py, line 1)\n"
    )


@pytest.mark.parametrize("by", ["entry point", "pyproject"])
def test_a_built_in_one_is_replaced(run, here, site, by):
    here('tasks = ["mine:digits"]\nmethods = ["mine:ga"]' if by == "pyproject" else "gates = {}")
    if by == "entry point":
        install(site, tasks=["digits = theirs:digits"], methods=["ga = theirs:ga"])
        (site / "theirs.py").write_text(TASK + METHOD)
    found = json.loads(run("list", "--json")[1])
    assert found["tasks"]["digits"]["forget_sets"] == {"first_ten": 10}
    assert found["methods"]["ga"] == {"by": 0.5}


def test_the_nearest_pyproject_with_a_table_of_klom_counts(run, here, store, monkeypatch):
    folder = here('tasks = ["mine:blobs"]') / "below"
    folder.mkdir()
    (folder / "pyproject.toml").write_text("[project]\n")
    monkeypatch.chdir(folder)
    args = ["train", "blobs", "--models", "0", "--oracles", "0", *store]
    assert "nothing is to be trained" in run(*args)[2]
    (folder / "pyproject.toml").write_text("[tool.klom]\n")
    assert "unknown task 'blobs'" in run(*args)[2]


HERE = r"[tool.klom] tasks of {folder}/pyproject.toml"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('tasks = ["mine"]', f"{HERE} (mine): module:name is expected, as my_task:task"),
        ('tasks = ["no:task"]', f"{HERE} (no:task): ModuleNotFoundError: No module named 'no'\n"),
        ('tasks = ["mine:no"]', f"{HERE} (mine:no): AttributeError: module 'mine' has no at"),
        ('tasks = ["bad:task"]', f"{HERE} (bad:task): RuntimeError: no GPU (bad.py, line 2)"),
        ('tasks = ["ends:task"]', f"{HERE} (ends:task): SystemExit: 3 (ends.py, line 1)"),
        ('tasks = ["says:task"]', f"{HERE} (says:task): put it right"),
        ('tasks = ["mine:TASK"]', f"{HERE} (mine:TASK) gives int: a Task, a list of tasks, or a"),
        ('tasks = ["mine:load"]', f"{HERE} (mine:load) gives Data: a Task, a list of tasks, or"),
        ('tasks = ["mine:named"]', f"{HERE} (mine:named): TypeError: named() missing 1 required"),
        ('tasks = "mine:blobs"', '[tool.klom]: tasks must be a list, as ["module:name"]; got \'m'),
        ("tasks = [3]", '[tool.klom]: tasks must be a list, as ["module:name"]; got [3]'),
        ('task = ["mine:blobs"]', "[tool.klom]: unknown table 'task': did you mean tasks? known"),
        ("tasks = [", "pyproject.toml: Invalid value"),
    ],
)
def test_what_cannot_be_imported_is_told_in_a_line(run, here, table, message):
    folder = here(table)
    (folder / "mine.py").write_text(f"TASK = 3\n{TASK}")
    (folder / "bad.py").write_text("\nraise RuntimeError('no GPU\\nsecond line')\n")
    (folder / "ends.py").write_text("raise SystemExit(3)")
    (folder / "says.py").write_text("import klom_bench\nraise klom_bench.KlomError('put it right')")
    code, out, err = run("train", "digits")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("klom train: ")
    assert message.format(folder=folder) in err


ENTRY = "the entry point 'blobs' of my-package (theirs:blobs)"


@pytest.mark.parametrize(
    ("entries", "table", "message"),
    [
        (["other"], "", f"by {ENTRY} and by the entry point 'blobs' of other (theirs:blobs): "),
        ([], 'tasks = ["mine:blobs"]', f"by {HERE} (mine:blobs) and by {ENTRY}: rename or remove"),
    ],
)
def test_two_tasks_of_a_name_are_told(run, here, site, entries, table, message):
    folder = here(table)
    for package in ["my-package", *entries]:
        install(site, package, tasks=["blobs = theirs:blobs"])
    for name in ("blobs", "digits"):
        code, out, err = run("train", name)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("klom train: two tasks are named 'blobs', ")
        assert message.format(folder=folder) in err


def test_other_names_and_things_of_entry_points_are_told(run, here, site):
    here('tasks = ["mine:several", "mine:several"]')
    assert "two tasks are named 'first', by [tool.klom]" in run("train", "blobs")[2]
    here('methods = ["mine:halves", "mine:blobs"]')
    entries = ["halves = mine:halves"]
    install(site, tasks=["spots = mine:blobs"], methods=entries)
    assert "(mine:blobs) gives the tasks blobs: an entry point must be" in run("train", "spots")[2]
    err = run("tune", "halves")[2]
    assert err.startswith("klom tune: two methods are named 'halves', by [tool.klom] methods of ")
    assert err.endswith(
        "the entry point 'halves' of my-package (mine:halves): rename or remove one\n"
    )
    here('methods = ["mine:blobs", "mine:load"]')
    assert "(mine:blobs) gives Task: an unlearning function is expected" in run("tune", "blobs")[2]
    assert "(mine:load): the method 'load' has the parameters ()" in run("tune", "load")[2]


@pytest.mark.processes
def test_processes_that_train_find_them_too(here, store):
    folder = here('tasks = ["mine:blobs"]')
    args = ["train", "blobs", "--models", "30", "--oracles", "0", "-n", "2", *map(str, store)]
    command = [sys.executable, "-P", "-m", "klom_bench.cli", *args]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.stdout == f"30 of 30 members are in {store[1]}\n", done.stderr
