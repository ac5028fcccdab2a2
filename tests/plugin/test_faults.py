"""Runs that are killed, starved or interrupted: red, nothing lost, and the next run goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from klom_bench.files import atomic

PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]

# `die(where)` kills the worker once in a run, at a place inside our own code; training is counted.
CONFTEST = """
import json, os, pathlib, signal
import pytest, torch
import klom_bench.files.atomic as atomic
import klom_bench.store.store as store

here = pathlib.Path(__file__).parent
train_pack, write_whole = store.train_pack, atomic.write_whole

def die(where):
    if os.environ.get("DIE") == where and "PYTEST_XDIST_WORKER" in os.environ:
        try:
            (here / "died").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

def counted(ensemble, members, device, check, tick):
    def told(amount):
        tick(amount)
        die("training")
    trained = train_pack(ensemble, members, device, check, told)
    with open(here / "trained", "a") as file:
        file.write(json.dumps([ensemble.label, members]) + "\\n")
    return trained

def half(path, content):
    if path.suffix == ".npy" and os.environ.get("DIE") == "writing":
        path.with_name(f".{path.name}.partial").write_bytes(content[:100])
        die("writing")
    write_whole(path, content)

store.train_pack, atomic.write_whole = counted, half

@pytest.fixture
def mine():
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


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "test_mine.py").write_text("from klom_bench.suite import test_klom\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    return tmp_path


def arguments(folder, *more):
    asked = ("--klom-method=mine", "--klom-forget-set=1-3", "--klom-models=4", "--benchmark-quiet")
    return [*PYTEST, *asked, f"--klom-store={folder / 'store'}", *more]


def run(folder, *more, **variables):
    return subprocess.run(
        arguments(folder, *more),
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | variables,
        timeout=300,
    )


def whole_members(store):
    """Members by ensemble folder; every file that a manifest lists is there and unaltered."""
    found = {}
    for path in sorted(store.rglob("manifest.json")):
        members = json.loads(path.read_text())["members"]
        for member in members.values():
            for name, sha256 in member["files"].items():
                atomic.read(path.parent / name, sha256)
        found[path.parent.relative_to(store).as_posix()] = set(members)
    return found


def trained(folder):
    path = folder / "trained"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(label, i) for label, members in map(json.loads, lines) for i in members]


def goes_on(folder, *more):
    """The next run trains what is missing and nothing else, and measures everything."""
    before, already = whole_members(folder / "store"), trained(folder)
    contents = [json.loads(path.read_text()) for path in folder.rglob("manifest.json")]
    weights = [i for content in contents for i in content.get("trained", ())]
    result = run(folder, *more)
    assert result.returncode == 0, result.stdout
    assert "3 of 3 tests measured" in result.stdout
    kept = sum(map(len, before.values())) + len(weights)
    assert len(trained(folder)) - len(already) == 16 - kept
    assert {len(members) for members in whole_members(folder / "store").values()} == {4}


@pytest.mark.parametrize("where", ["training", "unlearning", "writing"])
def test_a_killed_worker(folder, where):
    result = run(folder, "-n2", DIE=where)
    assert (folder / "died").exists()
    assert result.returncode == 1, result.stdout
    assert "2 of 3 tests measured" in result.stdout
    assert "crashed while running" in result.stdout
    assert "1 failed, 2 passed" in result.stdout
    assert "INTERNALERROR" not in result.stdout + result.stderr
    goes_on(folder)


def test_a_killed_worker_that_is_not_replaced(folder):
    result = run(folder, "-n1", "--max-worker-restart=0", DIE="unlearning")
    assert result.returncode == 1
    assert "0 of 3 tests measured" in result.stdout
    goes_on(folder)


def test_a_full_disk(folder):
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
    command = " ".join(arguments(folder, "-n2"))
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
    goes_on(folder)


def test_two_runs_at_once(folder):
    runs = [
        subprocess.Popen(arguments(folder, "-n2"), cwd=folder, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outputs
    assert sorted(trained(folder)) == sorted(set(trained(folder)))
    assert len(trained(folder)) == 16
    whole_members(folder / "store")
    tables = [
        [line.split("  0.")[0] for line in text.splitlines() if "forget_set_" in line[:13]]
        for text in outputs
    ]
    assert tables[0] == tables[1] != []


@pytest.mark.parametrize(
    ("send", "number"),
    [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)],
    ids=["ctrl-c", "the controller is terminated"],
)
def test_an_interrupted_run(folder, send, number):
    """Ctrl-C reaches the whole foreground group, `kill -TERM` the controller alone."""
    process = subprocess.Popen(
        arguments(folder, "-n2", "--klom-models=60", "--klom-forget-set=1-5"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 120
    while len(list((folder / "store").rglob("sd_*.pt"))) < 60 and time.monotonic() < end:
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
    assert sum(map(len, kept.values())) >= 60 - 25
    plan = run(folder, "--klom-models=60", "--klom-forget-set=1-5", "--klom-plan").stdout
    shown = [line.split()[-2] for line in plan.splitlines() if "s of " in line[:14]]
    assert sum(map(int, shown)) == sum(map(len, kept.values()))


def test_a_controller_that_is_killed_takes_its_workers_along(folder):
    process = subprocess.Popen(
        arguments(folder, "-n2", "--klom-models=60", "--klom-forget-set=1-5"),
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
