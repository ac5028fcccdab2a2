"""Processes that train into one store, and are killed."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers.ensembles import CPU, ORACLES, TRAIN
from helpers.processes import wait_for

READY_AND_WAITS = TRAIN.replace("flush=True)\nStore", "flush=True)\ninput()\nStore")


def start(store, members, program=TRAIN):
    command = [sys.executable, "-c", program, store.root, str(members)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.processes
def test_a_killed_run_is_resumed(store, filled):
    process = start(store, 30)
    wait_for(lambda: any(store.root.rglob("sd_*.pt")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    store.complete([(ORACLES, 30)], CPU)
    found = store.held(ORACLES).margins(30, CPU)
    assert len(store.held(ORACLES).states_of(range(30))) == 30
    assert np.array_equal(found[:4], filled.held(ORACLES).margins(4, CPU))
    assert len(np.unique(found, axis=0)) == 30


@pytest.mark.processes
def test_a_kill_before_anything_was_written_is_resumed(store):
    process = start(store, 3)
    wait_for(lambda: any(store.root.rglob("pack_0")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [held.lacks(3) for held in store.complete([(ORACLES, 3)], CPU)] == [0]


@pytest.mark.processes
def test_processes_share_the_work_and_train_each_member_once(store):
    both = [start(store, 30, READY_AND_WAITS) for _ in range(2)]
    for process in both:  # else one would be done before the other has begun
        process.stdin.write("go\n")
        process.stdin.flush()
    trained = [[int(i) for i in process.communicate()[0].split()] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(trained[0] + trained[1]) == list(range(30))
    assert all(trained)
    assert sorted(store.manifest(ORACLES).members) == list(range(30))
