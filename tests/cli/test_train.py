"""What `klom train` is asked for, and how its processes are listened to; these are made up here."""

from contextlib import contextmanager

import joblib
import pytest
import torch
from helpers.margin_files import CPU

from klom_bench.cli import workers
from klom_bench.cli.command import build_parser
from klom_bench.cli.train import asked, process_count
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

BEGINNING = """
import json, os, sys

def tell(**event):
    print(json.dumps(event), flush=True)

_, job = json.loads(sys.stdin.readline())

def is_first():
    try:
        os.close(os.open(job["store"] + "/first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
"""
ENDED = "klom train: a process was ended before it was done (Killed: was there too little memory?)"


@pytest.fixture
def pretended(run, tmp_path, monkeypatch):
    """pretended(code, "-n", "2"): train, but let each process run this code instead."""

    def train(code, *args):
        monkeypatch.setattr(workers, "START", BEGINNING + code)
        return run("train", "digits", "--forget-set", "5", "--store", tmp_path, *args)

    return train


def folders(*args):
    args = build_parser().parse_args(["train", *args, "--store", "/nowhere"])
    return {ensemble.folder.as_posix(): n for ensemble, n in asked(args)[1]}


def test_options_hold_for_each_task():
    names = "digits digits_cnn digits --forget-set 5,class_9 --models 4 --oracles 3 --subsets 2"
    assert folders(*names.split(), "--seed", "7") == {
        f"seed_7/{kind.format(task)}": n
        for task in ("DIGITS", "DIGITS_CNN")
        for kind, n in [
            ("full_models/{}", 4),
            ("oracles/{}/forget_set_5", 3),
            ("oracles/{}/class_9", 3),
            ("random_halves/{}", 2),
        ]
    }


def test_a_task_is_one_thing_for_all_its_ensembles():
    """Else its data would be loaded twice."""
    args = build_parser().parse_args(["train", "digits", "--subsets", "2"])
    assert len({id(ensemble.task) for ensemble, _ in asked(args)[1]}) == 1


def test_of_each_kind_there_may_be_none():
    assert folders("digits", "--models", "0", "--subsets", "9") == {"random_halves/DIGITS": 9}
    assert folders("cifar10", "--models", "0", "--subsets", "9") == {"random_halves/CIFAR10": 9}
    args = ["digits", "--forget-set", "5", "--models", "0", "--oracles", "9"]
    assert folders(*args) == {"oracles/DIGITS/forget_set_5": 9}
    assert folders("digits", "--models", "9", "--oracles", "0") == {"full_models/DIGITS": 9}


def test_halves_are_those_that_methods_fit_datamodels_on(run, tmp_path):
    args = ("train", "digits", "--models", "0", "--subsets", "2", "--store", tmp_path)
    assert run(*args)[:2] == (0, f"2 of 2 members are in {tmp_path}\n")
    assert Store(tmp_path, "error").complete([(EnsembleId(DIGITS, "subset", 0), 2)], CPU)
    assert not (tmp_path / "full_models").exists()


@pytest.mark.parametrize(
    ("device", "count", "expected"),
    [
        ("auto", 0, joblib.cpu_count(only_physical_cores=True)),
        ("auto", 3, 3),
        ("cuda:1", 3, 1),
        ("cpu", 3, joblib.cpu_count(only_physical_cores=True)),
    ],
)
def test_auto_is_a_process_a_gpu_or_a_physical_core(monkeypatch, device, count, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert process_count("auto", device) == expected


def test_each_process_finds_its_gpu_and_threads_before_it_begins(pretended, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,MIG-a")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    said = 'tell(warning="{CUDA_VISIBLE_DEVICES} {OMP_NUM_THREADS}".format(**os.environ))'
    _, _, err = pretended(said, "-n", "auto")
    assert sorted(err.splitlines()) == ["klom train: 4 3", "klom train: MIG-a 2"]


def test_ctrl_c_is_answered_by_none_but_the_first(pretended):
    """On a terminal every process gets it, even before Python has begun."""
    code, _, err = pretended("os.kill(os.getpid(), 2)\ntell(warning='here')", "-n", "2")
    assert (code, err) == (0, "klom train: here\n")


def test_processes_have_the_job_and_what_all_say_is_said_once(pretended):
    code = """
tell(begun=["training", 10])
tell(warning=f"{job['shard']} of {job['tasks']}")
"""
    code, _, err = pretended(code, "-n", "3", "--shard", "1/2")
    assert code == 0
    assert err == "klom train: 1/2 of ['digits']\n"


def test_progress_is_that_of_all_together(tmp_path, monkeypatch):
    """Of what the first to look has found, and never more than that."""
    told = []

    @contextmanager
    def announce(label, members):
        told.append((label, members))
        yield told.append
        told.append("end")

    code = """
tell(begun=["training", 10])
for _ in range(4): tell(trained=1.5)
"""
    monkeypatch.setattr(workers, "START", BEGINNING + code)
    args = build_parser().parse_args(["train", "digits", "--store", str(tmp_path)])
    assert workers.train_in_processes(2, args, announce)
    first, *ticks, last = told
    assert (first, sum(ticks), last) == (("training in 2 processes", 10), 10, "end")


def test_who_waits_for_another_run_says_so_once_and_of_each_other_nothing(pretended):
    code = """
tell(begun=["training", 10])
tell(begun=["waiting for process 7 on elsewhere (since noon)", 10])
tell(begun=[f"waiting for process {os.getpid()} on here (since noon)", 10])
"""
    code, _, err = pretended(code, "-n", "2")
    assert code == 0
    waiting = "klom train: waiting for process 7 on elsewhere (since noon)"
    assert err.splitlines() == [waiting]


def test_the_first_that_fails_ends_the_others(pretended):
    code = """
tell(error="no more of this")
sys.stdin.read()
"""
    code, out, err = pretended(code, "-n", "3")
    assert (code, out, err) == (1, "", "klom train: no more of this\n")


def test_what_a_killed_process_leaves_the_others_do(pretended):
    code = """
if is_first():
    os.kill(os.getpid(), 9)
"""
    code, _, err = pretended(code, "-n", "2")
    assert (code, err) == (0, f"{ENDED}; the others go on\n")


def test_when_all_were_killed_it_says_what_is_missing(pretended, tmp_path):
    code, out, err = pretended("os.kill(os.getpid(), 9)", "-n", "2", "--models", "4")
    assert (code, out) == (1, "")
    missing = f"no process is left: 8 of 8 members are missing from {tmp_path}; the same command"
    assert err == f"{ENDED}; the others go on\n{ENDED}\nklom train: {missing} goes on\n"


def test_nothing_is_started_where_nothing_is_lacking(trained, run, monkeypatch):
    monkeypatch.setattr(workers, "START", "never")
    args = ("train", "digits", "--forget-set", "5", "--models", "12", "--store", trained)
    assert run(*args, "-n", "2") == (0, f"24 of 24 members are in {trained}\n", "")


def test_what_lies_in_the_current_folder_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "START", BEGINNING + "print('the right one')")
    worker = workers.start({}, {})
    assert worker.communicate()[0] == "the right one\n"
