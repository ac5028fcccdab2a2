"""Engines by name, threads as one of them, and tasks on their way: all that needs no Ray."""

import math
import os
import pickle
import signal
import socket
import sys
import threading
from contextlib import closing
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers import blobs
from helpers.processes import LIGHT

from klom_bench import Data, KlomError, run
from klom_bench.cli.command import main
from klom_bench.engine import HERE, cluster, engine_named
from klom_bench.tasks import DIGITS, travelling
from klom_bench.tasks.travelling import Once, leaving

CPU = torch.device("cpu")


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("rai", None, "auto"), "unknown engine 'rai': did you mean ray"),
        (("threads", 0.5, "auto"), "is for the engine ray"),
        (("ray", 0.0, "auto"), "must be from 0.0001 to 1, got 0"),
        (("ray", 1e-9, "auto"), "must be from 0.0001 to 1, got 1e-09"),
        (("ray", math.nan, "auto"), "must be from 0.0001 to 1, got nan"),
        (("ray", 1.5, "auto"), "must be from 0.0001 to 1, got 1.5"),
        (("ray", None, "cuda:1"), "Ray chooses GPUs"),
        (("ray", None, "auto"), "pip install klom-bench[ray]"),
    ],
)
def test_what_cannot_be_is_refused(no_ray, asked, said):
    with pytest.raises(KlomError) as caught:
        engine_named(*asked)
    assert said in str(caught.value)


def test_without_ray_nothing_is_run(no_ray, pytester, capsys, tmp_path):
    result = pytester.runpytest_inprocess(*LIGHT, "--klom-method=ga", "--klom-engine=ray")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*pip install klom-bench[[]ray[]]*")
    assert main(["train", "digits", "--engine", "ray", "--store", str(tmp_path)]) == 1
    assert "pip install klom-bench[ray]" in capsys.readouterr().err
    with pytest.raises(KlomError, match="pip install"):
        run("digits", "ga", models=2, store=tmp_path, engine="ray")


def test_processes_of_this_machine_are_not_for_ray(pytester, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    result = pytester.runpytest_inprocess(*LIGHT, "--klom-method=ga", "--klom-engine=ray", "-n2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*leave out -n")
    asked = ["train", "digits", "--engine", "ray", "-n", "2", "--store", str(tmp_path)]
    assert main(asked) == 1
    assert "choose one of the two" in capsys.readouterr().err


def test_an_address_of_rays_client_is_refused(monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(KlomError, match="ray job submit"):
        cluster.connected()


def test_an_address_where_nobody_answers_is_an_error_at_once(monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would wait for minutes"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", "{}:{}".format(*free.getsockname()))
        with pytest.raises(KlomError, match=r"at RAY_ADDRESS=.*refused.*`ray start --head`"):
            cluster.connected()


@pytest.fixture
def own_ctrl_c():
    """As in a foreground process, wherever the tests run."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_until_ray_has_started_and_ends_it(monkeypatch, own_ctrl_c):
    ray = pytest.importorskip("ray")
    happened = []

    def init(**_):
        os.kill(os.getpid(), signal.SIGINT)
        happened.append("started")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: happened.append("ended"))
    with pytest.raises(KeyboardInterrupt):
        cluster.connected()
    assert happened == ["started", "ended"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_is_not_lost_where_ray_does_not_start(monkeypatch, own_ctrl_c):
    ray = pytest.importorskip("ray")

    def init(**_):
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("no room")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyboardInterrupt):
        cluster.connected()


def test_a_second_ctrl_c_does_not_wait(monkeypatch, own_ctrl_c):
    ray = pytest.importorskip("ray")
    happened = []

    def init(**_):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        happened.append("started")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyboardInterrupt):
        cluster.connected()
    assert not happened


def test_a_wrong_address_is_told_before_anything_runs(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    monkeypatch.setattr("sys.modules", {**sys.modules, "ray": None})
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(KlomError, match="ray job submit"):
        engine_named("ray", None, "auto")


@pytest.mark.parametrize("address", [".host:6379", "nowhere.invalid:6379"])
def test_an_address_that_is_none_is_told(monkeypatch, address):
    monkeypatch.setattr("sys.modules", {**sys.modules, "ray": None})
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(KlomError, match=r"no cluster of Ray could be used at RAY_ADDRESS="):
        cluster.refuse_address()


def test_threads_give_results_as_they_finish(two_threads):
    first_may_end = threading.Event()

    def work(item, read):
        if item == 0:
            assert first_may_end.wait(60)
        return item * read

    found = []
    for item, result in HERE.map(work, range(4), CPU, lambda item: 10):
        found.append((item, result))
        if item == 3:
            first_may_end.set()
    assert found == [(1, 10), (2, 20), (3, 30), (0, 0)]


def test_threads_take_no_more_items_than_they_compute(two_threads):
    taken, seen = [], []

    def items():
        for i in range(6):
            taken.append(i)
            yield i

    with closing(HERE.map(lambda item, _: item, items(), CPU)) as found:
        for _ in found:
            seen.append(len(taken))
            assert len(taken) <= len(seen) + 1
    assert len(seen) == 6


def test_an_error_of_a_thread_is_raised_and_ends_all(two_threads):
    def work(item, _):
        if item == 2:
            raise ValueError("two")
        return item

    with pytest.raises(ValueError, match="two"):
        list(HERE.map(work, iter(range(1000)), CPU))


def test_a_task_leaves_without_its_data_and_arrives_once(monkeypatch):
    monkeypatch.setattr(travelling, "_arrived", {})
    task, brought = blobs.blobs(), []

    def bring(token, data):
        brought.append(data)
        return blobs.load

    task = replace(task, architecture=blobs.Net, forget_sets={})
    data = task.data
    with leaving(bring):
        first, second = pickle.dumps(task), pickle.dumps(task)
    there = pickle.loads(first)
    assert pickle.loads(second) is there
    assert brought == [data, data]
    assert there is not task
    assert "data" not in vars(there)
    assert torch.equal(there.data.x_train, data.x_train)
    assert there.training.name == "train"


def test_data_of_a_built_in_task_are_read_there_and_must_be_the_same(monkeypatch):
    monkeypatch.setattr(travelling, "_arrived", {})

    def bring(token, data):
        raise AssertionError("they are where the worker is")

    with leaving(bring):
        left = pickle.dumps(DIGITS)
    assert len(left) < 100_000
    there = pickle.loads(left)
    assert there.data_hashes == DIGITS.data_hashes
    there.forget_data()
    read = there.load.load()
    other = Data(read.x_train + 1, read.y_train, read.x_val, read.y_val)
    vars(there)["load"] = replace(there.load, load=lambda: other)
    with pytest.raises(KlomError, match="are not those of the process that started the run"):
        _ = there.data


def test_what_goes_once_is_brought_under_one_name_and_arrives_as_one(monkeypatch):
    monkeypatch.setattr(travelling, "_arrived", {})
    large, brought = Once([1, 2, 3]), []

    def bring(token, value):
        brought.append((token, value))
        return partial(list, value)

    with leaving(bring):
        first, second = pickle.dumps((large, "first")), pickle.dumps((large, "second"))
    assert brought == [(large.token, [1, 2, 3])] * 2
    (there, _), (again, _) = pickle.loads(first), pickle.loads(second)
    assert again is there
    assert there is not large
    assert there.value == pickle.loads(pickle.dumps(large)).value == [1, 2, 3]


def test_what_was_used_last_is_known_longest(monkeypatch):
    monkeypatch.setattr(travelling, "_arrived", {})

    def arrives(one):
        with leaving(lambda token, value: partial(list, value)):
            left = pickle.dumps(one)
        return pickle.loads(left)

    used, forgotten = Once([0]), Once([1])
    first, other = arrives(used), arrives(forgotten)
    for i in range(2 * travelling.KNOWN):
        arrives(Once([i]))
        assert arrives(used) is first
    assert arrives(forgotten) is not other
