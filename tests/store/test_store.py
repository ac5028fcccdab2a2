"""The store with the real task: few members, real processes, really killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from klom_bench import cli
from klom_bench.ensemble.ensemble import Ensemble, evaluating
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError, KlomWarning
from klom_bench.files import atomic
from klom_bench.metrics.margins import margins
from klom_bench.models.mlp import mlp
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.manifest import Member, load
from klom_bench.store.stale import lock
from klom_bench.store.store import Store
from klom_bench.store.training import Evaluated
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId, packs

CPU = torch.device("cpu")
FORGET = DIGITS.forget_set("forget_set_3")
ORACLES = EnsembleId(DIGITS, "oracle", 0, FORGET)
ORIGINALS = EnsembleId(DIGITS, "original", 0)

TRAIN = """
import sys, torch
from pathlib import Path
import klom_bench.store.store as module
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
ensemble = EnsembleId(DIGITS, "oracle", 0, DIGITS.forget_set("forget_set_3"))
train_pack = module.train_pack
def told(ensemble, members, *rest):
    sys.stdout.write("".join(f"{i} " for i in members))
    return train_pack(ensemble, members, *rest)
module.train_pack = told
print("ready", flush=True)
Store(Path(sys.argv[1])).complete([(ensemble, int(sys.argv[2]))], torch.device("cpu"))
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def filled(small_store, tmp_path):
    """A copy of a store with 4 oracles of forget_set_3."""
    Store(small_store).complete([(ORACLES, 4)], CPU)
    shutil.copytree(small_store, tmp_path / "store", ignore=shutil.ignore_patterns("*.lock"))
    return Store(tmp_path / "store")


def snapshot(store):
    return {p: p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}


def test_has_the_published_layout(filled):
    names = {p.name for p in (filled.root / "oracles/DIGITS/forget_set_3").iterdir()}
    assert {"sd_0____epoch_19.pt", "3__train_margins_19.npy", "3__val_margins_19.npy"} <= names
    assert EnsembleId(DIGITS, "original", 0).folder.as_posix() == "full_models/DIGITS"
    assert EnsembleId(DIGITS, "original", 7).folder.as_posix() == "seed_7/full_models/DIGITS"


def test_margins_are_those_of_the_checkpoints(filled):
    states = filled.held(ORACLES).states(4)
    model, data = Ensemble(DIGITS.architecture, states), DIGITS.data
    with evaluating(model):
        expected = margins(data.logits(model, 4), data.y()).numpy()
    found = filled.held(ORACLES).margins(4, CPU)
    assert found.shape == (4, 1797)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_oracles_have_not_seen_the_forget_set(filled):
    """Leaving F out shows: oracles are less sure of F than originals are, and only of F."""
    filled.complete([(ORIGINALS, 4)], CPU)
    gap = filled.held(ORIGINALS).margins(4, CPU).mean(0) - filled.held(ORACLES).margins(
        4, CPU
    ).mean(0)
    assert gap[FORGET.indices].mean() > 0.25
    assert abs(gap[FORGET.retain].mean()) < 0.1


def test_an_ensemble_grows_and_keeps_what_it_has(filled):
    before = filled.held(ORACLES).margins(4, CPU)
    filled.complete([(ORACLES, 6)], CPU)
    assert np.array_equal(filled.held(ORACLES).margins(6, CPU)[:4], before)


def test_members_are_the_same_however_they_came(filled, store):
    """Bit for bit: trained one by one from the last, against four at once."""
    for members in ([3], [1, 2], [0]):
        store._take_folder(ORACLES)
        there = store.manifest(ORACLES)
        store._make(ORACLES, members, there, CPU, lambda: None, lambda _: None)
    assert np.array_equal(store.held(ORACLES).margins(4, CPU), filled.held(ORACLES).margins(4, CPU))


def test_nobody_waits_while_a_pack_is_free(store):
    """All originals are claimed by somebody else: the oracles are trained meanwhile."""
    store._take_folder(ORIGINALS)
    seen = []

    def release_once_oracles_are_there():
        try:
            while store.manifest(ORACLES).lacking(range(2)):
                time.sleep(0.02)
            seen.append(len(store.manifest(ORIGINALS).members))
        finally:
            held.release()

    held = lock(store.folder(ORIGINALS), "pack_0")
    held.acquire()
    watcher = threading.Thread(target=release_once_oracles_are_there)
    watcher.start()
    store.complete([(ORIGINALS, 2), (ORACLES, 2)], CPU)
    watcher.join()
    assert seen == [0]
    assert not store.manifest(ORIGINALS).lacking(range(2))


def test_packs_are_fixed_ranges():
    assert packs([0, 1, 24, 25, 51], 25) == [[0, 1, 24], [25], [51]]


@pytest.mark.parametrize("harm", ["truncate", "alter", "remove"])
def test_a_harmed_file_is_named_and_not_trained_over(filled, harm):
    path = filled.folder(ORACLES) / "2__train_margins_19.npy"
    content = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(content[:-100])
    elif harm == "alter":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.unlink()
    before = snapshot(filled)
    filled.complete([(ORACLES, 4)], CPU)
    with pytest.raises(KlomError, match=r"2__train_margins_19\.npy .*manifest\.json.*restore it"):
        filled.held(ORACLES).margins(4, CPU)
    assert snapshot(filled) == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("forget_set_sha256", "0" * 64, "forget_set_sha256 is '000"),
        ("recipe", {"epochs": 3}, r"recipe is \{'epochs': 3\} there"),
        ("data_sha256", "x", "data_sha256 is 'x' there"),
        ("seed", 9, "seed is 9 there, 0 is asked for"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(filled, key, value, message):
    path = filled.folder(ORACLES) / "manifest.json"
    content = json.loads(path.read_text())
    content["identity"][key] = value
    path.write_text(json.dumps(content))
    before = snapshot(filled)
    for members in (4, 6):
        with pytest.raises(KlomError, match=message):
            filled.complete([(ORACLES, members)], CPU)
    assert snapshot(filled) == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"identity": {}}',
        '{"identity": [], "members": {}}',
        '{"identity": {}, "members": {"0": {"files": {}, "accuracy": {}, "margin_size": 1,'
        ' "seconds": 1, "made_with": ""}}}',
    ],
)
def test_a_broken_manifest_is_named(filled, text):
    path = filled.folder(ORACLES) / "manifest.json"
    path.write_text(text)
    with pytest.raises(KlomError, match=r"manifest\.json cannot be read"):
        filled.complete([(ORACLES, 4)], CPU)
    assert path.read_text() == text


DAMAGE = {
    "nested": lambda c: "[" * 100_000,
    "seconds null": lambda c: c["members"]["0"].update(seconds=None),
    "seconds text": lambda c: c["members"]["0"].update(seconds="x"),
    "seconds huge": lambda c: c["members"]["0"].update(seconds=10**400),
    "seconds nan": lambda c: c["members"]["0"].update(seconds=float("nan")),
    "seconds negative": lambda c: c["members"]["0"].update(seconds=-1),
    "accuracy null": lambda c: c["members"]["0"].update(accuracy=None),
    "accuracy 2.0": lambda c: c["members"]["0"]["accuracy"].update(val=2.0),
    "accuracy text": lambda c: c["members"]["0"]["accuracy"].update(val="1"),
    "accuracy true": lambda c: c["members"]["0"]["accuracy"].update(val=True),
    "size infinite": lambda c: c["members"]["0"].update(margin_size=float("inf")),
    "a checksum that is a number": lambda c: c["members"]["0"]["files"].update(
        {"sd_0____epoch_19.pt": 7}
    ),
    "made with nothing": lambda c: c["members"]["0"].update(made_with=None),
    "members are a list": lambda c: c.update(members=[1]),
    "a member that is a word": lambda c: c["members"].update(zero=c["members"]["0"]),
    "something more": lambda c: c["members"]["0"].update(more=1),
    "trained is a number": lambda c: c.update(trained=7),
    "trained lacks all": lambda c: c.update(trained={"9": {}}),
    "the logits are a number": lambda c: c["identity"]["model"].update(logits=5),
    "a logit is huge": lambda c: c["identity"]["model"].update(logits=[[10**400]]),
    "ragged logits": lambda c: c["identity"]["model"].update(logits=[[1.0], [1.0, 2.0]]),
    "a logit is text": lambda c: c["identity"]["model"].update(logits=[["1"]]),
    "no accuracy": lambda c: c["members"]["0"].update(accuracy={}),
    "the model is a number": lambda c: c["identity"].update(model=7),
}


def test_a_damaged_manifest_is_told_in_one_message(filled, capsys):
    path = filled.folder(ORACLES) / "manifest.json"
    sound = path.read_bytes()
    for name, damage in DAMAGE.items():
        content = json.loads(sound)
        text = damage(content)
        path.write_text(text if isinstance(text, str) else json.dumps(content))
        for use in (filled.held, lambda e: filled.complete([(e, 4)], CPU)):
            with pytest.raises(
                KlomError, match=r"manifest.json cannot be read .*klom remove digits"
            ):
                use(ORACLES)
        assert cli.main(["list", "--store", str(filled.root)]) == 0, name
    assert cli.main(["verify", "--store", str(filled.root)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_manifest_that_links_to_itself(filled):
    path = filled.folder(ORACLES) / "manifest.json"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(KlomError, match=r"manifest.json cannot be read \(OSError"):
        filled.held(ORACLES)


def test_files_without_a_manifest_are_left_alone(store):
    folder = store.folder(ORACLES)
    folder.mkdir(parents=True)
    (folder / "sd_0____epoch_19.pt").write_bytes(b"somebody's")
    with pytest.raises(
        KlomError, match=r"without manifest\.json is published and never trained into"
    ):
        store.complete([(ORACLES, 2)], CPU)
    assert (folder / "sd_0____epoch_19.pt").read_bytes() == b"somebody's"


def test_a_manifest_that_was_just_written_is_read(filled, monkeypatch):
    """Another process takes the folder between our first look and our second."""
    real, calls = Path.exists, []

    def late(path):
        if path.name == "manifest.json" and not calls:
            calls.append(path)
            return False
        return real(path)

    monkeypatch.setattr(Path, "exists", late)
    assert len(load(filled.folder(ORACLES), ORACLES).members) >= 4
    assert calls


def test_missing_members_are_an_error_when_asked_for(store):
    with pytest.raises(KlomError, match=r"3 of 3 oracles of forget_set_3 .*--klom-missing=train"):
        Store(store.root, "error").complete([(ORACLES, 3)], CPU)
    assert not store.root.exists()


def test_a_store_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KlomError, match=r"cannot be written .*--klom-store"):
        Store(tmp_path / "file").complete([(ORACLES, 2)], CPU)


def test_a_full_disk_leaves_no_half_file(tmp_path):
    """The limit on file sizes stands for a full disk: the write fails in the middle."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "sys.dont_write_bytecode = True\n"  # half of that would break every later process
    )
    run = subprocess.run(
        [sys.executable, "-c", code + TRAIN, tmp_path, "2"], capture_output=True, text=True
    )
    assert run.returncode != 0
    assert "cannot write" in run.stderr
    assert "--klom-store" in run.stderr
    store = Store(tmp_path)
    assert store.manifest(ORACLES).members == {}
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".partial", ".pt", ".npy")]
    store.complete([(ORACLES, 2)], CPU)
    assert store.held(ORACLES).margins(2, CPU).shape == (2, 1797)


def start(store, members):
    command = [sys.executable, "-c", TRAIN, store.root, str(members)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_killed_run_is_resumed(store, filled):
    process = start(store, 60)
    wait_for(lambda: any(store.root.rglob("sd_*.pt")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    store.complete([(ORACLES, 60)], CPU)
    found = store.held(ORACLES).margins(60, CPU)
    assert len(store.held(ORACLES).states(60)) == 60
    assert np.array_equal(found[:4], filled.held(ORACLES).margins(4, CPU))
    assert len(np.unique(found, axis=0)) == 60


def test_a_kill_before_anything_was_written_is_resumed(store):
    process = start(store, 3)
    wait_for(lambda: any(store.root.rglob("pack_0.lock")))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert [held.lacks(3) for held in store.complete([(ORACLES, 3)], CPU)] == [0]


def test_processes_share_the_work_and_train_each_member_once(store):
    both = [start(store, 100) for _ in range(2)]
    trained = [[int(i) for i in process.communicate()[0].split()] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(trained[0] + trained[1]) == list(range(100))
    assert all(trained)
    assert sorted(store.manifest(ORACLES).members) == list(range(100))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("0.weight", lambda w: w * 1e4),  # as accurate as the others, with margins far out
        ("0.bias", lambda b: b - 1e4),  # dead units: it learns nothing
        ("2.bias", lambda b: b + torch.inf),
    ],
)
def test_a_diverged_member_is_refused(store, monkeypatch, name, change):
    """Real divergence, of one member: its weights are spoiled before training."""
    import klom_bench.store.training as module

    new_members = module.new_members

    def spoiled(ensemble, members):
        model = new_members(ensemble, members)
        states = model.states()
        states[1][name] = change(states[1][name])
        model.load_states(states)
        return model

    monkeypatch.setattr(module, "new_members", spoiled)
    with pytest.raises(KlomError, match="member 1 of the oracles of forget_set_3 diverged"):
        store.complete([(ORACLES, 4)], CPU)
    assert store.manifest(ORACLES).members == store.manifest(ORACLES).trained == {}


class FailsInEvalMode(nn.Module):
    """On the points from the 200th on, which no trial before training reaches."""

    broken = True

    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, x):
        if self.broken and not self.training and len(x) > 64:
            raise ZeroDivisionError("only in eval mode")
        return self.layers(x)


def test_what_was_trained_is_kept_though_evaluation_failed(store, monkeypatch):
    task = replace(DIGITS, architecture=FailsInEvalMode, recipe=replace(DIGITS.recipe, epochs=2))
    ensemble = EnsembleId(task, "original", 0)
    with pytest.raises(ZeroDivisionError):
        store.complete([(ensemble, 3)], CPU)
    assert not store.manifest(ensemble).members
    kept = store.manifest(ensemble).trained
    assert sorted(kept) == [0, 1, 2]
    monkeypatch.setattr(FailsInEvalMode, "broken", False)
    store.complete([(ensemble, 4)], CPU)
    now = store.manifest(ensemble)
    assert not now.trained
    assert [now.members[i].seconds for i in range(3)] == [kept[i].seconds for i in range(3)]
    assert now.members[3].seconds not in [w.seconds for w in kept.values()]
    afresh = Store(store.root / "afresh")
    afresh.complete([(ensemble, 4)], CPU)
    assert np.array_equal(
        afresh.held(ensemble).margins(4, CPU), store.held(ensemble).margins(4, CPU)
    )


@pytest.mark.parametrize(("mode", "training"), [("train", True), ("eval", False)])
def test_a_model_that_cannot_be_computed_is_told_before_training(store, mode, training):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = mlp()

        def forward(self, x):
            if self.training is training:
                raise ZeroDivisionError("as it happens")
            return self.layers(x)

    task = replace(DIGITS, architecture=Broken)
    text = rf"cannot be computed in {mode} mode, .*: as it happens \(.*test_store\.py:\d+\)"
    with pytest.raises(KlomError, match=text):
        store.complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert not store.root.exists()


def test_a_backward_pass_that_cannot_be_computed_is_told_before_training(store):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = mlp()

        def forward(self, x):
            return self.layers(x).detach()

    task = replace(DIGITS, architecture=Broken)
    with pytest.raises(KlomError, match=r"computed in train mode.*does not require grad"):
        store.complete([(EnsembleId(task, "original", 0), 2)], CPU)


def evaluated(member, accuracy, margin_size):
    nothing = np.zeros(0, np.float32)
    return Evaluated(member, nothing, nothing, {"retain": accuracy}, margin_size)


@pytest.mark.parametrize(
    ("pack", "company"),
    [
        ([(0.1, 8.0)], [(1.0, 8.0)] * 25),  # the pack's only member, among those in the store
        ([(1.0, 1e6)], [(1.0, 8.0)] * 25),
        ([(1.0, 5.0), (1.0, 1e6)], []),
        ([(0.12, 2.0)] + [(0.99, 8.0)] * 24, []),  # collapsed: it says one class of every point
        ([(float("nan"), float("nan"))] * 3, []),
        ([(0.9, float("inf"))] + [(0.99, 8.0)] * 3, []),
    ],
)
def test_divergence_is_seen_in_any_company(pack, company):
    found = [evaluated(i, *values) for i, values in enumerate(pack)]
    others = {100 + i: Member({}, {"retain": a}, s, 1.0, "") for i, (a, s) in enumerate(company)}
    with pytest.raises(KlomError, match="diverged in training"):
        refuse_diverged(ORACLES, found, others)
    refuse_diverged(
        ORACLES,
        [evaluated(0, 0.99, 9.0)],
        dict.fromkeys(range(1, 9), others.get(100)) if company else {},
    )


@pytest.mark.parametrize(
    ("pack", "weak"),
    [
        ([(0.636, 0.8), *[(0.754, 0.8)] * 4], [0]),  # two epochs of a ResNet-18
        ([(0.11, 8.0)] * 3, [0, 1, 2]),  # labels drawn by lot
        ([(0.3, 1.0), *[(0.5, 1.5)] * 4], [0]),
        ([(0.95, 7.0), *[(0.99, 9.0)] * 4], []),
    ],
)
def test_what_is_only_weak_is_no_divergence_and_is_said(pack, weak):
    found = [evaluated(i, *values) for i, values in enumerate(pack)]
    said = refuse_diverged(ORACLES, found, {})
    assert [text.partition(" of the ")[0] for text in said] == [f"member {i}" for i in weak]
    assert all("is weak: accuracy" in text for text in said)


def test_an_ensemble_without_any_learning_is_trained_kept_and_said(store):
    """Labels drawn by lot, one epoch: the first thing tried with a model of one's own."""
    data = DIGITS.data
    lot = torch.randint(10, (1438,), generator=torch.Generator().manual_seed(0))
    task = replace(
        DIGITS,
        recipe=Recipe(epochs=1, batch_size=64, lr=0.001),
        load=lambda: replace(data, y_train=lot),
    )
    with pytest.warns(KlomWarning, match="is weak: accuracy 0.1"):
        store.complete([(EnsembleId(task, "original", 0), 2)], CPU)
    assert len(store.manifest(EnsembleId(task, "original", 0)).members) == 2


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_nothing_that_runs_code_is_unpickled(tmp_path):
    import pickle

    class Harmful:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path / 'ran'}",))

    with pytest.raises(pickle.UnpicklingError):
        atomic.state_from(pickle.dumps(Harmful()))
    content = pickle.dumps(Harmful())
    with pytest.raises(ValueError, match="pickle"):
        atomic.array_from(content)
    assert not (tmp_path / "ran").exists()
