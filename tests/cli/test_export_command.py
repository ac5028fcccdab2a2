"""`klom export`."""

import numpy as np
import pytest
import torch
from helpers.margin_files import CPU, FORGET, ORACLES, ORIGINALS, N, export, published

from klom_bench.store.own import OwnEnsemble
from klom_bench.store.store import Store


@pytest.mark.parametrize("layout", ["card", "easydub"])
def test_an_export_is_a_store_with_the_same_margins(run, store, tmp_path, layout):
    out = published(store, tmp_path, run, layout)
    for ensemble in (ORIGINALS, ORACLES):
        mine, theirs = Store(store), Store(out, "error")
        assert np.array_equal(
            mine.held(ensemble).margins(N, CPU), theirs.held(ensemble).margins(N, CPU)
        )
        for a, b in zip(
            mine.held(ensemble).states_of(range(N)),
            theirs.held(ensemble).states_of(range(N)),
            strict=True,
        ):
            assert all(torch.equal(a[key], b[key]) for key in a)
    assert run("verify", "--store", out)[0] == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert "0 files written" in export(run, store, out, layout)[1]
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_exports_have_the_published_names_and_shapes(run, store, tmp_path):
    card = published(store, tmp_path / "a", run)
    names = {p.relative_to(card).as_posix() for p in card.rglob("*_3*")}
    folder = "oracles/DIGITS/forget_set_5"
    assert {
        f"{folder}/sd_3____epoch_19.pt",
        f"{folder}/train_logits_3.pt",
        f"{folder}/val_logits_3.pt",
    } <= names
    state = torch.load(card / folder / "sd_3____epoch_19.pt")
    assert list(state) == ["model.0.weight", "model.0.bias", "model.2.weight", "model.2.bias"]
    assert torch.load(card / folder / "train_logits_3.pt").shape == (1438, 10)
    assert np.load(card / folder / "3__val_margins_19.npy").shape == (359,)
    assert np.array_equal(
        np.load(card / "forget_set_indices/DIGITS/forget_set_5.npy"), FORGET.indices
    )
    dub = published(store, tmp_path / "c", run, "easydub")
    name = "mlp/id_3_epoch_19.npy"
    assert np.load(dub / "margins/digits/oracle/forget_5/retain" / name).shape == (1388,)
    assert np.load(dub / "margins/digits/pretrain/retain" / name).shape == (1438,)
    assert np.load(dub / "logits/digits/pretrain/forget_5" / name).shape == (50, 10)
    assert (dub / "models/digits/oracle/forget_5/mlp/id_3_epoch_19.pt").exists()


def test_no_more_than_a_pack_is_read_at_once(run, store, tmp_path, monkeypatch):
    monkeypatch.setitem(vars(ORACLES.task), "pack", 2)
    usual, most = OwnEnsemble.states_of, []

    def states_of(self, members):
        most.append(len(members))
        return usual(self, members)

    monkeypatch.setattr(OwnEnsemble, "states_of", states_of)
    published(store, tmp_path, run)
    assert max(most) == 2


def test_export_does_not_overwrite(run, store, tmp_path):
    out = published(store, tmp_path, run)
    (out / "full_models/DIGITS/train_logits_0.pt").write_bytes(b"somebody's")
    code, _, err = run(
        "export", out, "digits", "--forget-set", "5", "--models", N, "--store", store
    )
    assert code == 1
    assert "train_logits_0.pt is there with another content" in err


def test_export_of_what_is_not_there(run, store, tmp_path):
    code, _, err = run("export", tmp_path / "out", "digits", "--forget-set", "5", "--store", store)
    assert code == 1
    assert f"88 of 100 originals of digits are not in the store {store}" in err


def test_export_of_no_set_in_particular_is_of_those_that_are_there(run, store, tmp_path):
    args = ["export", tmp_path / "out", "digits", "--models", N, "--store"]
    assert run(*args, store)[0] == 0
    assert [p.name for p in (tmp_path / "out/oracles/DIGITS").iterdir()] == ["forget_set_5"]
    code, _, err = run(*args, tmp_path / "none")
    assert code == 1
    assert "holds nothing of digits" in err


def test_nothing_is_exported_into_an_ensemble_of_ours(run, store, tmp_path):
    target = tmp_path / "other"
    run("train", "digits", "--forget-set", "5", "--models", "1", "--store", target)
    before = sorted(target.rglob("*"))
    code, _, err = run(
        "export", target, "digits", "--forget-set", "5", "--models", N, "--store", store
    )
    assert code == 1
    assert "belongs to an ensemble that is trained here: export into another folder" in err
    assert [
        p
        for p in sorted(target.rglob("*"))
        if p.is_file() and "DIGITS" in p.parts and "forget_set_indices" not in p.parts
    ] == [p for p in before if p.is_file()]
