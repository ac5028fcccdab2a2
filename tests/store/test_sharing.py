"""Processes that train into one store, and are killed."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers.ensembles import CPU, ORACLES, TRAIN
from helpers.processes import wait_for


def start(store, members):
    command = [sys.executable, "-c", TRAIN, store.root, str(members)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.processes
def test_a_killed_run_is_resumed(store, filled):
    process = start(store, 60)
    wait_for(lambda: any(store.root.rglob("sd_*.pt")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    store.complete([(ORACLES, 60)], CPU)
    found = store.held(ORACLES).margins(60, CPU)
    assert len(store.held(ORACLES).states_of(range(60))) == 60
    assert np.array_equal(found[:4], filled.held(ORACLES).margins(4, CPU))
    assert len(np.unique(found, axis=0)) == 60


@pytest.mark.processes
def test_a_kill_before_anything_was_written_is_resumed(store):
    process = start(store, 3)
    wait_for(lambda: any(store.root.rglob("pack_0")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [held.lacks(3) for held in store.complete([(ORACLES, 3)], CPU)] == [0]


@pytest.mark.processes
def test_processes_share_the_work_and_train_each_member_once(store):
    both = [start(store, 26) for _ in range(2)]  # two packs, of which one is small
    trained = [[int(i) for i in process.communicate()[0].split()] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(trained[0] + trained[1]) == list(range(26))
    assert all(trained)
    assert sorted(store.manifest(ORACLES).members) == list(range(26))
