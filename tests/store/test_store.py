"""Ensembles trained once and found again."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from helpers.ensembles import CPU, FORGET, ORACLES, TRAIN

from klom_bench import cli
from klom_bench.ensemble.ensemble import Ensemble, evaluating
from klom_bench.errors import KlomError
from klom_bench.files import atomic
from klom_bench.metrics.margins import margins
from klom_bench.store.filling import make
from klom_bench.store.leases import CLAIMS, Claims
from klom_bench.store.manifest import load
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId, packs

ORIGINALS = EnsembleId(DIGITS, "original", 0)


def snapshot(store):
    return {p: p.read_bytes() for p in sorted(store.root.rglob("*")) if p.is_file()}


def test_has_the_published_layout(filled):
    names = {p.name for p in (filled.root / "oracles/DIGITS/forget_set_3").iterdir()}
    assert {"sd_0____epoch_19.pt", "3__train_margins_19.npy", "3__val_margins_19.npy"} <= names
    assert EnsembleId(DIGITS, "original", 0).folder.as_posix() == "full_models/DIGITS"
    assert EnsembleId(DIGITS, "original", 7).folder.as_posix() == "seed_7/full_models/DIGITS"


def test_margins_are_those_of_the_checkpoints(filled):
    states = filled.held(ORACLES).states_of(range(4))
    model, data = Ensemble(DIGITS.architecture, states), DIGITS.data
    with evaluating(model):
        expected = margins(data.outputs(model, 4), data.y()).numpy()
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
        make(store.folder(ORACLES), ORACLES, members, {}, CPU, lambda: None, lambda _: None, [])
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
            held.close()

    held = ExitStack()
    held.enter_context(Claims().take(store.folder(ORIGINALS) / CLAIMS / "pack_0"))
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
    with pytest.raises(KlomError, match=r"2__train_margins_19\.npy .*member.*restore it"):
        filled.held(ORACLES).margins(4, CPU)
    assert snapshot(filled) == before


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("forget_set_sha256", "0" * 64, "the indices of forget_set_3 changed since"),
        ("recipe", {"epochs": 3}, "recipe: epochs is 3 there, 20 is asked for"),
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


DAMAGED_MEMBERS = {
    "nothing": lambda m: "",
    "half": lambda m: json.dumps(m)[:-9],
    "nested": lambda m: "[" * 100_000,
    "a list": lambda m: "[]",
    "seconds text": lambda m: m.update(seconds="x"),
    "seconds huge": lambda m: m.update(seconds=10**400),
    "seconds nan": lambda m: m.update(seconds=float("nan")),
    "seconds negative": lambda m: m.update(seconds=-1),
    "accuracy null": lambda m: m.update(accuracy=None),
    "accuracy 2.0": lambda m: m["accuracy"].update(val=2.0),
    "accuracy text": lambda m: m["accuracy"].update(val="1"),
    "accuracy true": lambda m: m["accuracy"].update(val=True),
    "no accuracy": lambda m: m.update(accuracy={}),
    "size infinite": lambda m: m.update(margin_size=float("inf")),
    "a checksum that is a number": lambda m: m["files"].update({"sd_0____epoch_19.pt": 7}),
    "no files": lambda m: m.update(files={}),
    "a file elsewhere": lambda m: m["files"].update({"../../passwords": "0"}),
    "made with nothing": lambda m: m.update(made_with=None),
    "something more": lambda m: m.update(more=1),
}
DAMAGED_IDENTITIES = {
    "nested": lambda c: "[" * 100_000,
    "members are a list": lambda c: c.update(members=[1]),
    "a member that is a word": lambda c: c.update(members={"zero": {}}),
    "a listed member lacks all": lambda c: c.update(members={"0": {}}),
    "the logits are a number": lambda c: c["identity"]["model"].update(logits=5),
    "a logit is huge": lambda c: c["identity"]["model"].update(logits=[[10**400]]),
    "ragged logits": lambda c: c["identity"]["model"].update(logits=[[1.0], [1.0, 2.0]]),
    "a logit is text": lambda c: c["identity"]["model"].update(logits=[["1"]]),
    "the model is a number": lambda c: c["identity"].update(model=7),
}


@pytest.mark.parametrize(
    ("file", "damages", "message"),
    [
        ("manifest.json", DAMAGED_IDENTITIES, "cannot be read .*klom remove digits"),
        ("members/0.json", DAMAGED_MEMBERS, "cannot be read .*restore it, or remove this one file"),
    ],
)
def test_what_is_damaged_is_told_in_one_message(filled, capsys, file, damages, message):
    path = filled.folder(ORACLES) / file
    sound = path.read_bytes()
    for name, damage in damages.items():
        content = json.loads(sound)
        text = damage(content)
        path.write_text(text if isinstance(text, str) else json.dumps(content))
        for use in (filled.held, lambda e: filled.complete([(e, 4)], CPU)):
            with pytest.raises(KlomError, match=re.escape(str(path)) + " " + message):
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


@pytest.mark.processes
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
