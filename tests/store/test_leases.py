"""Claims fall with their holder, whatever clocks say, and nothing depends on them."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.ensembles import CPU, ORACLES, TRAIN
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble, evaluating
from klom_bench.errors import KlomError, KlomWarning
from klom_bench.files import atomic
from klom_bench.metrics.margins import margins
from klom_bench.models.mlp import mlp
from klom_bench.store import leases
from klom_bench.store.filling import make, train_here
from klom_bench.store.leases import CLAIMS, Claims, Holder
from klom_bench.store.sharing import Sharing
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

ELSEWHERE = Holder("a-host-that-is-gone", "pid:[1]", 7, "2026-01-01 00:00:00", "token")


@pytest.fixture
def path(tmp_path):
    return tmp_path / CLAIMS / "pack_0"


def held_by(path, holder, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(vars(holder)) if content is None else content)


def who(claims, path):
    with claims.take(path) as other:
        return other


def problems_of_four(work):
    """What goes wrong in four threads that do the same at the same time."""
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work) for _ in range(4)]
    return [future.exception() for future in futures if future.exception()]


def test_one_at_a_time_and_free_afterwards(path):
    with Claims().take(path) as other:
        assert other is None
        assert who(Claims(), path).pid == os.getpid()
    assert not path.exists()
    assert who(Claims(), path) is None


@pytest.mark.parametrize(
    ("content", "clock"),
    [
        (None, 3600),
        (None, -3600),
        ("", 0),
        ("{", 0),
        ("[]", 0),
        ('{"pid": 7}', 0),
        ("[" * 10**5, 0),
    ],
)
def test_a_claim_of_a_host_that_is_gone_falls_after_a_while(path, content, clock):
    """Whatever its clock says, and whatever is in the file."""
    held_by(path, ELSEWHERE, content)
    os.utime(path, (time.time() + clock,) * 2)
    claims = Claims(stale_seconds=0.3)
    assert who(claims, path) is not None
    assert who(claims, path) is not None
    time.sleep(0.35)
    assert who(claims, path) is None
    assert "pack_0 was taken over from process" in claims.notes[0]
    assert "nothing was heard of it for 0 s" in claims.notes[0]


@pytest.mark.parametrize(
    "odd",
    [
        {"since": ["now"]},
        {"pid": 2**70},
        {"pid": True},
        {"host": None},
        {"more": 1},
    ],
)
def test_an_odd_claim_is_one_of_nobody_knows_whom(path, odd):
    held_by(path, ELSEWHERE, json.dumps({**vars(ELSEWHERE), **odd}))
    assert who(Claims(), path) == leases.UNKNOWN


@pytest.mark.parametrize("make_odd", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to(path)])
def test_what_is_no_file_holds_nobody_up(path, make_odd):
    path.parent.mkdir()
    make_odd(path)
    claims = Claims(stale_seconds=0.1)
    assert who(claims, path) == leases.UNKNOWN
    time.sleep(0.15)
    assert who(claims, path) is None


def test_a_claim_that_falls_while_another_is_tried(path):
    """Between two steps of one process the other's claim comes and goes."""
    path.parent.mkdir()
    until = time.monotonic() + 2

    def take_and_let_go():
        while time.monotonic() < until:
            who(Claims(), path)

    assert not problems_of_four(take_and_let_go)


def test_a_store_that_has_gone_is_not_made_again(path):
    with pytest.raises(KlomError, match="is gone: was the store moved or removed"):
        who(Claims(), path.parent.parent / "gone" / CLAIMS / "pack_0")
    assert not (path.parent.parent / "gone").exists()


@pytest.mark.parametrize("clock", [3600, -3600])
def test_a_claim_that_is_renewed_stands_whatever_the_clock_says(path, clock):
    held_by(path, ELSEWHERE)
    claims, now = Claims(stale_seconds=0.3), time.time() + clock
    for i in range(8):
        os.utime(path, (now + i, now + i))
        assert who(claims, path) == ELSEWHERE
        time.sleep(0.1)
    assert not claims.notes


def test_a_holder_renews_its_claim(path):
    mine = Claims(renew_seconds=0.05)
    with mine.take(path):
        before = path.stat().st_mtime_ns
        os.utime(path, (0, 0))
        end = time.monotonic() + 10
        while path.stat().st_mtime_ns < before:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_holder_whose_claim_was_taken_over_leaves_it_alone(path):
    with Claims(renew_seconds=0.02).take(path):
        held_by(path, ELSEWHERE)
        os.utime(path, (0, 0))
        time.sleep(0.2)
        assert path.stat().st_mtime == 0
    assert path.exists()


def test_a_process_of_this_machine_that_has_ended_holds_nothing(path):
    """Not even one whose parent has not noticed."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    end = time.monotonic() + 30
    here = replace(Holder.here(), pid=ended.pid)
    while not here.is_dead:
        assert time.monotonic() < end
        time.sleep(0.02)
    held_by(path, here)
    claims = Claims()
    assert who(claims, path) is None
    assert claims.notes == [f"pack_0 was taken over from {here}: it has ended"]
    ended.wait()
    assert here.is_dead
    assert not replace(here, space="pid:[another container]").is_dead
    assert not replace(here, pid=os.getpid()).is_dead


def test_a_stale_claim_costs_no_member_and_is_told(tmp_path):
    store = Store(tmp_path)
    held_by(store.folder(ORACLES) / CLAIMS / "pack_0", ELSEWHERE)
    said = []

    def announce(label, count):
        said.append((label, count))
        return leases.contextlib.nullcontext(lambda amount: None)

    store._take_folder(ORACLES)
    sharing = Sharing(tmp_path, [(ORACLES, [0, 1])], CPU, announce, Claims(stale_seconds=3.3))
    sharing.work(lambda left: train_here(sharing, left, lambda: None, lambda amount: None))
    assert sorted(store.manifest(ORACLES).members) == [0, 1]
    assert said == [("waiting for process 7 on a-host-that-is-gone (since 2026-01-01 00:00:00)", 2)]
    assert "a-host-that-is-gone" in sharing.claims.notes[0]


class Noisy(nn.Module):
    """What it is trained to differs each time, as on a GPU, only more so."""

    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        if self.training:
            x = x + torch.from_numpy(np.random.default_rng().normal(0, 0.3, x.shape)).to(x)
        return self.layers(x)


def test_writers_of_the_same_members_at_the_same_moment(tmp_path):
    """Nobody holds a claim: one writer's weights must not meet another's margins."""
    task = replace(DIGITS, architecture=Noisy, recipe=replace(DIGITS.recipe, epochs=1))
    ensemble, store = EnsembleId(task, "original", 0), Store(tmp_path)
    store._take_folder(ensemble)
    together = threading.Barrier(4)

    def write():
        folder, waited = store.folder(ensemble), []

        def all_have_trained():
            if not waited:
                waited.append(together.wait(60))

        make(folder, ensemble, [0, 1], {}, CPU, all_have_trained, lambda amount: None, [])

    assert not problems_of_four(write)
    held = store.held(ensemble)
    model = Ensemble(task.architecture, held.states_of(range(2)))
    with evaluating(model):
        expected = margins(task.data.outputs(model, 2), task.data.y()).numpy()
    np.testing.assert_allclose(held.margins(2, CPU), expected, rtol=0, atol=1e-4)
    for member in held.manifest.members.values():
        for name, checksum in member.files.items():
            atomic.read(held.folder / name, checksum)
    assert len(list(held.folder.glob("*.npy"))) == 4


NEITHER_LOCKS_NOR_LINKS = """
import errno, sys
def refuse(event, args):
    if event.startswith("fcntl."):
        raise OSError(errno.ENOSYS, "Function not implemented")
    if event == "os.link":
        raise OSError(errno.EPERM, "Operation not permitted")
sys.addaudithook(refuse)
"""


@pytest.mark.processes
def test_file_systems_without_locks_and_links(tmp_path, filled):
    code = TRAIN.replace('event == "os.link"', 'event == "os.rename"')
    both = [
        subprocess.Popen(
            [sys.executable, "-c", NEITHER_LOCKS_NOR_LINKS + code, tmp_path / "bare", "30"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    trained = [process.communicate()[0].split()[1:] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(map(int, trained[0] + trained[1])) == list(range(30))
    store = Store(tmp_path / "bare")
    assert np.array_equal(
        store.held(ORACLES).margins(30, CPU)[:4], filled.held(ORACLES).margins(4, CPU)
    )


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("sd_0____epoch_19.pt", b""),
        ("sd_0____epoch_19.pt", b"PK half"),
        ("sd_0____epoch_19.pt", atomic.state_bytes({"other": torch.zeros(2)})),
        ("sd_0____epoch_19.pt", atomic.state_bytes(torch.zeros(2))),
        ("0__val_margins_19.npy", b""),
        ("0__val_margins_19.npy", atomic.array_bytes(np.zeros(359, np.float32))),
        ("0__val_margins_19.npy", atomic.array_bytes(np.zeros(3, np.float32))),
    ],
)
def test_what_was_lost_with_the_power_is_made_anew(tmp_path, filled, file, content):
    store = Store(tmp_path / "new")
    store._take_folder(ORACLES)
    (store.folder(ORACLES) / file).write_bytes(content)
    with pytest.warns(KlomWarning, match=f"{file} belonged to no member and was damaged"):
        store.complete([(ORACLES, 1)], CPU)
    assert np.array_equal(store.held(ORACLES).margins(1, CPU), filled.held(ORACLES).margins(1, CPU))


def test_who_takes_over_says_so(tmp_path):
    store = Store(tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    held_by(store.folder(ORACLES) / CLAIMS / "pack_0", replace(Holder.here(), pid=gone.pid))
    with pytest.warns(KlomWarning, match=f"taken over from process {gone.pid} on .* has ended"):
        store.complete([(ORACLES, 1)], CPU)
