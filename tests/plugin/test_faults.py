"""Runs that are killed, starved or interrupted: red, nothing lost, and the next run goes on."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from helpers.processes import LIGHT, PYTEST, WRITES_DOWN, written

from klom_bench.files import atomic

pytestmark = pytest.mark.processes
# `die(where)` kills a worker once in each place of $DIE, in the middle of what it does there.
CONFTEST = (
    WRITES_DOWN
    + """
import signal
import pytest, torch
from torch.optim.optimizer import register_optimizer_step_post_hook

def die(where):
    if where in os.environ.get("DIE", "").split() and "PYTEST_XDIST_WORKER" in os.environ:
        try:
            (here / f"died {where}").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

def before_it_is_in_place(event, args):
    if event == "os.link" and str(args[1]).endswith(".npy"):
        die("after-weights")
    if event == "os.link" and str(args[1]).endswith(".json") and "members" in str(args[1]):
        die("after-margins")

if "PYTEST_XDIST_WORKER" in os.environ:
    sys.addaudithook(before_it_is_in_place)
    register_optimizer_step_post_hook(lambda *_: die("training"))

@pytest.fixture
def mine(monkeypatch):
    monkeypatch.setattr("klom_bench.cell.rounds.import_compiler", lambda: None)  # 2 s a process
    def unlearn(model, forget, retain, *, lr=0.1):
        for x, y in forget.batches(64):
            die("unlearning")
            model(x).square().mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= lr * p.grad
        yield
    return unlearn
"""
)
THREE = ("--klom-method=mine", "--klom-forget-set=1-3", "--klom-models=4")


@pytest.fixture
def folder(pytester):
    pytester.makepyfile(test_mine="from klom_bench.suite import test_klom")
    pytester.makeconftest(CONFTEST)
    return pytester.path


@pytest.fixture
def run(pytester, folder):
    """A run in this process; its workers are processes of their own."""

    def started(*more):
        return pytester.runpytest_inprocess(
            *LIGHT, *THREE, f"--klom-store={folder / 'store'}", *more
        )

    return started


def arguments(folder, *more):
    """The same, as a process of its own."""
    return [*PYTEST, *THREE, f"--klom-store={folder / 'store'}", *more]


def whole_members(store):
    """Members by ensemble folder; every file of each is there and unaltered."""
    found = {}
    for path in sorted(store.rglob("manifest.json")):
        members = sorted((path.parent / "members").glob("[0-9]*.json"))
        for member in members:
            for name, sha256 in json.loads(member.read_text())["files"].items():
                atomic.read(path.parent / name, sha256)
        found[path.parent.relative_to(store).as_posix()] = {member.stem for member in members}
    return found


def checkpoints(store):
    """Which file each is: another one would have another inode or time."""
    stats = {path: path.stat() for path in store.rglob("sd_*.pt")}
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


@pytest.fixture
def goes_on(run, folder):
    """The next run trains what is missing and nothing else, and measures everything."""

    def check():
        store = folder / "store"
        before = checkpoints(store)
        result = run()
        assert result.ret == 0
        result.stdout.fnmatch_lines(["3 of 3 tests measured*"])
        after = checkpoints(store)
        assert len(after) == 16
        assert {path: after[path] for path in before} == before
        assert {len(members) for members in whole_members(store).values()} == {4}

    return check


@pytest.mark.parametrize(
    ("where", "workers"),
    [("training", "-n2"), ("after-weights after-margins", "-n1")],  # two: one waits for a claim
)
def test_killed_workers(run, goes_on, folder, monkeypatch, where, workers):
    monkeypatch.setenv("DIE", where)
    result = run(workers)
    killed = len(where.split())
    assert len(list(folder.glob("died *"))) == killed
    assert result.ret == 1
    result.assert_outcomes(passed=3 - killed, failed=killed)
    result.stdout.fnmatch_lines(["*crashed while running*", f"{3 - killed} of 3 tests measured*"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()
    monkeypatch.delenv("DIE")
    goes_on()


def test_a_killed_worker_that_is_not_replaced(run, goes_on, monkeypatch):
    monkeypatch.setenv("DIE", "unlearning")
    result = run("-n1", "--max-worker-restart=0")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["0 of 3 tests measured*"])
    monkeypatch.delenv("DIE")
    goes_on()


def test_a_full_disk(goes_on, folder):
    """A real one: the store is a file system of its own, with room for the first members only."""
    store = folder / "store"
    store.mkdir()
    setup = f"mount -t tmpfs -o size=400k tmpfs {store}"
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-rm", "sh", "-c", setup], capture_output=True).returncode
    ):
        pytest.skip("this system lets nobody mount a small file system (unshare -rm)")
    copy = f"cp -a {store} {folder / 'kept'}"
    command = " ".join(arguments(folder, "-n1"))
    result = subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"{setup} && {command}; status=$?; {copy}; exit $status"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 1, result.stdout
    assert "cannot write" in result.stdout
    assert "No space left on device. Make room or choose another folder" in result.stdout
    assert "0 of 3 tests measured" in result.stdout
    assert "Traceback" not in result.stdout
    assert "INTERNALERROR" not in result.stdout + result.stderr
    store.rmdir()
    (folder / "kept").rename(store)
    goes_on()


def test_two_runs_at_once(folder):
    runs = [
        subprocess.Popen(
            arguments(folder, *workers),
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"WRITE_DOWN": "1"},
        )
        for workers in ([], ["-n1"])
    ]
    outputs = [process.communicate(timeout=300)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    names = written(folder, folder / "store")
    assert sorted(names) == sorted(set(names))
    assert len(names) == 16
    whole_members(folder / "store")
    tables = [
        [line.split("  0.")[0] for line in text.splitlines() if "forget_set_" in line[:13]]
        for text in outputs
    ]
    assert tables[0] == tables[1] != []


@pytest.mark.parametrize(
    ("send", "number", "workers"),
    [(os.killpg, signal.SIGINT, "-n2"), (os.kill, signal.SIGTERM, "-n1")],
    ids=["ctrl-c", "the controller is terminated"],
)
def test_an_interrupted_run(folder, run, send, number, workers):
    """Ctrl-C reaches the whole foreground group, `kill -TERM` the controller alone."""
    process = subprocess.Popen(
        arguments(folder, workers, "--klom-models=60", "--klom-forget-set=1-5"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while len(list((folder / "store").rglob("sd_*.pt"))) < 30 and time.monotonic() < end:
        time.sleep(0.05)
    send(process.pid, number)
    sent = time.monotonic()
    output, _ = process.communicate(timeout=120)
    assert time.monotonic() - sent < 30
    assert process.returncode == 2, output
    assert " of 5 tests measured" in output
    assert "5 of 5" not in output
    assert "INTERNALERROR" not in output
    assert not subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True).stdout
    kept = whole_members(folder / "store")
    assert sum(map(len, kept.values())) >= 30 - 25
    plan = run("--klom-models=60", "--klom-forget-set=1-5", "--klom-plan").outlines
    shown = [line.split()[-2] for line in plan if "s of " in line[:14]]
    assert sum(map(int, shown)) == sum(map(len, kept.values()))


def test_a_controller_that_is_killed_takes_its_workers_along(folder):
    process = subprocess.Popen(
        arguments(folder, "-n1", "--klom-models=60", "--klom-forget-set=1-5"),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not list((folder / "store").rglob("sd_*.pt")):
        assert process.poll() is None, "it ended before anything was trained"
        time.sleep(0.05)
    process.kill()
    process.wait()
    end = time.monotonic() + 60
    while subprocess.run(["pgrep", "-s", str(process.pid)], capture_output=True).stdout:
        assert time.monotonic() < end, "workers go on without a controller"
        time.sleep(0.2)
    whole_members(folder / "store")
