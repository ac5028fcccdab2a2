"""Ensembles whose data, model or recipe changed since they were trained."""

import json
import os
import warnings

import pytest
import torch
from helpers.nets import CHANGES, CPU, Net, oracles, originals, task
from torch import nn

from klom_bench.errors import KlomError, KlomWarning
from klom_bench.store.leases import CLAIMS, Claims
from klom_bench.store.manifest import Stale
from klom_bench.store.store import Store


@pytest.mark.parametrize("role", [originals, oracles])
@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_named_and_nothing_is_used(root, name, role):
    changed, text = CHANGES[name]
    before = (root / role(changed).folder / "manifest.json").read_bytes()
    with pytest.raises(Stale, match=text) as error:
        Store(root).complete([(role(changed), 3)], CPU)
    assert "--klom-stale=retrain" in str(error.value)
    assert "`klom remove own" in str(error.value)
    with pytest.raises(Stale, match=text):  # before more are trained beside the old ones
        Store(root).complete([(role(changed), 5)], CPU)
    assert (root / role(changed).folder / "manifest.json").read_bytes() == before


def test_what_did_not_change_is_used(root):
    """Built anew, as in another process: another object, the same words and numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stale in ("error", "retrain"):
            store = Store(root, "error", stale)
            store.complete([(originals(task()), 3), (oracles(task()), 3)], CPU)
    assert not (root / "stale").exists()


def test_retrain_moves_the_old_ones_aside_and_trains_anew(root):
    changed = CHANGES["labels"][0]
    old = sorted(p.name for p in (root / originals(changed).folder).glob("sd_*"))
    store = Store(root, stale="retrain")
    with pytest.warns(KlomWarning, match="data changed since .* It was moved to"):
        store.complete([(originals(changed), 2)], CPU)
    aside = root / "stale" / "1" / originals(changed).folder
    assert sorted(p.name for p in aside.glob("sd_*")) == old
    assert sorted(store.manifest(originals(changed)).members) == [0, 1]
    assert store.held(originals(changed)).margins(2, CPU).shape == (2, 240)
    with pytest.warns(KlomWarning, match="It was moved to"):  # and back again
        Store(root, stale="retrain").complete([(originals(task()), 2)], CPU)
    assert (root / "stale" / "2" / originals(changed).folder).is_dir()


def test_nothing_is_moved_while_another_run_trains_into_it(root):
    changed = CHANGES["labels"][0]
    with (
        Claims().take(root / originals(changed).folder / CLAIMS / "pack_0"),
        pytest.raises(KlomError, match="another run is training into"),
    ):
        Store(root, stale="retrain").complete([(originals(changed), 2)], CPU)
    assert (root / originals(changed).folder / "manifest.json").exists()


def dated(root, ensemble, word):
    """As earlier versions wrote it: a word of the user's for the data, nothing of the model."""
    path = root / ensemble.folder / "manifest.json"
    content = json.loads(path.read_bytes())
    content["identity"]["data_sha256"] = word
    del content["identity"]["model"]
    path.write_text(json.dumps(content))
    return path


def test_a_manifest_with_a_users_word_is_compared_and_then_has_the_hash(root):
    mine = task(word="v1")
    path = dated(root, originals(mine), "v1")
    store = Store(root)
    with pytest.warns(KlomWarning, match="was made by an earlier version: its margins agree"):
        store.complete([(originals(mine), 3)], CPU)
    identity = json.loads(path.read_bytes())["identity"]
    assert identity["data_sha256"] == mine.data.hashes()
    assert identity["model"]["layers"]["act"] == "ReLU()"
    with pytest.raises(Stale, match="the data changed"):
        Store(root).complete([(originals(task(word="v1", far=1.0)), 3)], CPU)


@pytest.mark.parametrize(
    "changed",
    [
        task(labels=lambda y: 2 - y, word="v1"),
        task(labels=lambda y: torch.cat([y[:77], 2 - y[77:78], y[78:]]), word="v1"),
        task(x_scale=2.0, word="v1"),
        task(lambda: Net(act=nn.GELU), word="v1"),
        task(lambda: Net(sign=-1), word="v1"),
    ],
)
def test_a_manifest_with_a_users_word_that_is_wrong_is_noticed(root, changed):
    path = dated(root, originals(changed), "v1")
    before = path.read_bytes()
    with pytest.raises(Stale, match="the data or what the model computes changed since"):
        Store(root).complete([(originals(changed), 3)], CPU)
    assert path.read_bytes() == before


def test_another_word_is_another_ensemble(root):
    dated(root, originals(task()), "v1")
    with pytest.raises(Stale, match="data_sha256 is 'v1' there, 'v2' is asked for"):
        Store(root).complete([(originals(task(word="v2")), 3)], CPU)


def test_a_store_that_cannot_be_written_is_read(root, monkeypatch):
    mine = task(word="v1")
    path = dated(root, originals(mine), "v1")
    before = path.read_bytes()
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    Store(root, "error").complete([(originals(mine), 3)], CPU)
    assert path.read_bytes() == before


def test_margins_alone_are_used_as_before(root):
    for path in root.rglob("sd_*.pt"):
        path.unlink()
    Store(root, "error").complete([(oracles(task()), 3)], CPU)


def test_what_is_stale_is_told_before_anything_is_downloaded(root):
    changed = CHANGES["activation"][0]
    for missing in ("download", "error"):
        with pytest.raises(Stale, match="--klom-stale=retrain moves it aside"):
            Store(root, missing).complete([(originals(changed), 3)], CPU)


def test_a_plan_writes_nothing(root):
    mine = task(word="v1")
    path = dated(root, originals(mine), "v1")
    before = path.read_bytes()
    assert Store(root).stale_if(originals(mine), CPU) is None
    assert path.read_bytes() == before
