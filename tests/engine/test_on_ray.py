"""The engine ray on a cluster of two nodes: the same members and scores as here, whatever dies."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import blobs
from helpers.layouts import CPU, DIGITS, STATES
from helpers.processes import LIGHT, benchmarks, wait_for

from klom_bench import KlomError, run
from klom_bench.cell.loading import originals_of
from klom_bench.cli.command import main
from klom_bench.engine import on_ray
from klom_bench.errors import KlomWarning, warn
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId

pytestmark = pytest.mark.ray
SOURCE = Path(blobs.__file__).read_text()
MAIN = """
import sys
from klom_bench import run

if __name__ == "__main__":
    try:
        (record,) = run(blobs(), mine, forget_sets="ten", models=8, store=sys.argv[1], engine="ray")
    except KeyboardInterrupt:
        sys.exit(130)
    print(record.points.sum())
"""
HOOKS = """
import pytest

def pytest_klom_tasks():
    return [blobs()]

@pytest.fixture(name="mine")
def my_method():
    return mine
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes of one core each; this process is connected, so that its workers stay."""
    utils = pytest.importorskip("ray.cluster_utils")
    import ray

    folder = tmp_path_factory.mktemp("blobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BLOBS", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        one = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
        made = utils.Cluster(initialize_head=True, head_node_args=one)
        patch.setenv("RAY_ADDRESS", made.address)
        made.folder, made.one = folder, one
        made.second = made.add_node(**one)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
        ray.shutdown()
        made.shutdown()


@pytest.fixture
def folder(cluster):
    """Where what happens is named; empty."""
    for path in cluster.folder.iterdir():
        path.unlink()
    return cluster.folder


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A store and records of a local run, in this process."""
    store = tmp_path_factory.mktemp("here")
    return store, measured(store, "threads")


def measured(store, engine, methods=("mine",), models=8):
    given = [getattr(blobs, name, name) for name in methods]
    return run(
        blobs.blobs(),
        given,
        forget_sets="ten",
        models=models,
        store=store,
        engine=engine,
        params={"dm_direct.subsets": 6} if "dm_direct" in methods else {},
    )


def begun(folder):
    return len((folder / "begun").read_text().splitlines()) if (folder / "begun").exists() else 0


@contextmanager
def released(folder):
    """Whatever happens, packs go on in the end."""
    try:
        yield
    finally:
        (folder / "hold").unlink()


def files(store, halves=False):
    """What lies there of originals and oracles, or of all, but for how long it took."""
    return {
        path.relative_to(store): path.read_bytes()
        for path in store.rglob("*")
        if path.suffix in (".pt", ".npy") and (halves or "random_halves" not in path.parts)
    }


def members(store):
    return len([*store.rglob("members/*.json")])


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def ray_is_idle(cluster):
    import ray

    return ray.available_resources().get("CPU") == 2


def test_scores_and_members_are_those_of_a_local_run(cluster, folder, here, tmp_path):
    methods = ["mine", "ga", "oracle_matching", "dm_direct"]
    local = measured(here[0], "threads", methods)
    found = measured(tmp_path, "ray", methods)
    assert files(tmp_path, True) == files(here[0], True)
    for one, other in zip(found, local, strict=True):
        assert np.array_equal(one.points, other.points)
        assert one.scores == other.scores
        # Of all eight members in their processes, of which two run at a time.
        assert one.seconds["unlearn"] == pytest.approx(one.seconds["per_member"] * 8 / 2)


def test_a_worker_that_is_killed_costs_no_member(cluster, folder, here, tmp_path):
    (folder / "kill").touch()
    measured(tmp_path, "ray")
    assert begun(folder) == 9  # eight packs, and one of them twice
    assert files(tmp_path) == files(here[0])


def test_nothing_is_said_of_a_worker_that_died(cluster, folder, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SOURCE + MAIN)
    (folder / "kill").touch()
    command = [sys.executable, program, tmp_path / "store"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert ended.returncode == 0
    assert begun(folder) == 9
    assert float(ended.stdout)
    assert "worker" not in ended.stdout + ended.stderr


def test_a_cluster_that_has_lost_all_cores_is_told(cluster, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(on_ray, "PATIENCE", 0.5)
    (folder / "hold").write_text("0")
    told = threading.Event()
    monkeypatch.setattr(on_ray, "warn", lambda text: (told.set(), warn(text)))

    def lose():
        with released(folder):
            wait_for(lambda: begun(folder) == 2)
            with monkeypatch.context() as patch:
                patch.setattr(on_ray.OnRay, "_total", lambda engine, kind: 0.0)
                told.wait(30)

    losing = threading.Thread(target=lose)
    losing.start()
    with pytest.warns(KlomWarning, match="no node of Ray's cluster has a CPU any more: packs wait"):
        measured(tmp_path, "ray")
    losing.join()


def test_a_node_that_is_lost_costs_no_member(cluster, folder, here, tmp_path):
    (folder / "hold").write_text("0")

    def lose():
        with released(folder):
            wait_for(lambda: begun(folder) == 2)
            cluster.remove_node(cluster.second, allow_graceful=False)
            wait_for(lambda: any(map(is_gone, (folder / "begun").read_text().split())))

    losing = threading.Thread(target=lose)
    losing.start()
    try:
        measured(tmp_path, "ray")
    finally:
        losing.join()
        cluster.second = cluster.add_node(**cluster.one)
    assert begun(folder) == 9
    assert files(tmp_path) == files(here[0])


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("refuses", KlomError, "use a smaller step"),
        ("breaks", ValueError, "odd numbers"),
        ("leaves", SystemExit, "no more"),
        ("stops", KeyboardInterrupt, "by itself"),
        ("skips", pytest.skip.Exception, "not on Sundays"),
        ("raises_its_own", blobs.Own, "3 steps"),
    ],
)
def test_what_a_method_raises_arrives_as_it_is(cluster, folder, here, name, kind, text):
    with pytest.raises(kind) as caught:
        measured(here[0], "ray", [name])
    assert type(caught.value) is kind
    assert str(caught.value) == text
    (note,) = caught.value.__notes__
    assert f"in {name}" in note
    assert "klom_bench/cell" not in note


def test_the_cause_of_an_error_arrives_too(cluster, folder, here):
    with pytest.raises(ValueError, match="no step") as caught:
        measured(here[0], "ray", ["chains"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    (note,) = caught.value.__cause__.__notes__
    assert "_ = 1 / 0" in note


def test_what_is_the_same_for_all_cells_travels_once(cluster, here, monkeypatch):
    """Of the models on random halves."""
    put, sent = on_ray.OnRay._put, []
    monkeypatch.setattr(
        on_ray.OnRay, "_put", lambda engine, value: (sent.append(value), put(engine, value))[1]
    )
    found = run(
        blobs.blobs(),
        "dm_direct",
        models=2,
        params={"ridge": [0.1, 0.2], "subsets": [6, 4]},
        store=here[0],
        engine="ray",
    )
    assert len(found) == 4
    masks = [one[0] for one in sent if isinstance(one, tuple)]
    assert [mask.shape for mask in masks] == [(6, 60), (4, 60)]


def test_margins_of_published_checkpoints(cluster, tmp_path, monkeypatch):
    folder = tmp_path / "full_models/DIGITS"
    folder.mkdir(parents=True)
    for i, state in enumerate(STATES):
        torch.save(state, folder / f"sd_{i}____epoch_19.pt")
    held = Store(tmp_path, "error").held(EnsembleId(DIGITS, "original", 0))
    mapped, functions = on_ray.OnRay.map, []

    def spied(engine, function, *others):
        functions.append(function.func.__name__)
        return mapped(engine, function, *others)

    monkeypatch.setattr(on_ray.OnRay, "map", spied)
    with closing(on_ray.OnRay()) as engine:
        there = originals_of(held, len(STATES), CPU, engine)
    here = originals_of(held, len(STATES), CPU)
    assert len(functions) == 2
    assert np.array_equal(there.margins, here.margins)
    assert np.array_equal(there.right, here.right)


def test_a_gpu_is_asked_of_the_cluster(cluster, here):
    with pytest.raises(KlomError, match="no node of Ray's cluster has a GPU"):
        run(blobs.blobs(), blobs.mine, models=2, store=here[0], engine="ray", device="cuda")


def test_what_cannot_be_pickled_is_named(cluster, folder, here):
    with pytest.raises(KlomError, match=r"cannot pickle '_thread.lock' object\. What functions"):
        run(blobs.blobs(), blobs.locked(), models=2, store=here[0], engine="ray")


def test_a_method_that_always_ends_its_process_is_an_error(cluster, folder, here, monkeypatch):
    monkeypatch.setattr(on_ray, "RETRIES", 1)
    with pytest.raises(KlomError, match=r"begun 2 times, and each time its process .* was lost"):
        measured(here[0], "ray", ["dies"], models=2)


def test_ctrl_c_keeps_what_is_finished(cluster, folder, tmp_path):
    (folder / "hold").write_text("2")

    def interrupt():
        with released(folder):
            wait_for(lambda: begun(folder) == 4 and members(tmp_path) == 4, seconds=150)
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(lambda: ended.is_set())

    interrupting, ended = threading.Thread(target=interrupt), threading.Event()
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, "ray")
    ended.set()
    interrupting.join()
    assert members(tmp_path) == 4
    wait_for(lambda: ray_is_idle(cluster))


def test_a_driver_that_was_killed_goes_on(cluster, folder, here, tmp_path):
    """Its task is defined in `__main__`."""
    program, store = tmp_path / "program.py", tmp_path / "store"
    program.write_text(SOURCE + MAIN)
    command, pipe = [sys.executable, program, store], subprocess.PIPE
    (folder / "hold").write_text("2")
    killed = subprocess.Popen(command, stderr=pipe, text=True)
    wait_for(lambda: begun(folder) == 4 and members(store) == 4, seconds=150)
    killed.kill()
    killed.communicate()
    (folder / "hold").unlink()
    printed = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert begun(folder) == 10  # eight packs, two of which were begun twice
    assert members(store) == 16
    assert files(store) == files(here[0])
    assert float(printed.stdout) == here[1][0].points.sum()
    assert "ray" not in printed.stderr.lower()


def test_a_pack_that_is_too_large_for_memory_is_an_error(folder, tmp_path):
    """A cluster of its own, where any process is too large."""
    program = tmp_path / "program.py"
    program.write_text(SOURCE + MAIN)
    small = {"RAY_memory_usage_threshold": "0.0001", "RAY_memory_monitor_refresh_ms": "250"}
    there = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | small
    ended = subprocess.run(
        [sys.executable, program, tmp_path / "store"],
        env=there,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "begun 4 times" in ended.stderr
    assert "OutOfMemoryError" in ended.stderr


def test_a_task_of_a_conftest_by_pytest(cluster, folder, pytester):
    pytester.makeconftest(SOURCE + HOOKS)
    pytester.makepyfile(test_klom="from klom_bench.suite import test_klom")
    points = {}
    for engine in ("ray", "threads"):
        result = pytester.runpytest_inprocess(
            *LIGHT,
            "--klom-task=blobs",
            "--klom-method=mine",
            "--klom-models=4",
            f"--klom-engine={engine}",
            f"--klom-store={engine}_store",
            f"--klom-save-points={engine}",
            f"--benchmark-json={engine}.json",
        )
        result.assert_outcomes(passed=1)
        (path,) = (pytester.path / engine).iterdir()
        points[engine] = np.load(path)["klom"]
        (measured,) = benchmarks(pytester.path / f"{engine}.json")
        assert measured["extra_info"]["klom"]["members"]["unlearned"] == 4
    assert np.array_equal(points["ray"], points["threads"])


def test_klom_train(cluster, folder, here, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(SOURCE)
    (tmp_path / "pyproject.toml").write_text('[tool.klom]\ntasks = ["own:blobs"]\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["train", "blobs", "--models", "3", "--engine", "ray", "--store", "store"]) == 0
    ours = files(tmp_path / "store")
    assert ours == {path: content for path, content in files(here[0]).items() if path in ours}
    assert len(ours) == 6 * 3


def test_klom_tune(cluster, tmp_path):
    found = []
    for engine in ("threads", "ray"):
        asked = ["--models", "4", "--trials", "2", "--store", str(tmp_path / "store")]
        output = tmp_path / engine
        assert main(["tune", "ga", *asked, "--engine", engine, "--output", str(output)]) == 0
        (path,) = output.iterdir()
        trials = json.loads(path.read_text())["trials"]
        found.append([(trial["hyperparameters"], trial["scores"]) for trial in trials])
    assert len(found[0]) == 2
    assert found[0] == found[1]
