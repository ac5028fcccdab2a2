"""`klom list`, `verify` and `train`."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from helpers.margin_files import (
    CPU,
    FORGET,
    ORACLE,
    ORACLES,
    ORIGINALS,
    N,
    published,
)

from klom_bench import klom
from klom_bench.methods import BUILT_IN as METHODS
from klom_bench.store.store import Store


def test_train_is_what_pytest_would_train(trained, small_store):
    Store(small_store).complete([(ORACLES, 3)], CPU)
    mine, theirs = (Store(s).held(ORACLES).margins(3, CPU) for s in (trained, small_store))
    assert np.array_equal(mine, theirs)


def test_shards_train_each_pack_once(run, tmp_path):
    trained = []
    for i in range(3):
        before = len(list(tmp_path.rglob("sd_*")))
        code, out, _ = run(
            "train",
            "digits",
            "--forget-set",
            "5",
            "--models",
            "26",
            "--oracles",
            "2",
            "--shard",
            f"{i}/3",
            "--store",
            tmp_path,
        )
        assert code == 0
        trained.append(len(list(tmp_path.rglob("sd_*"))) - before)
    assert trained == [25, 1, 2]  # packs of 25: originals 0-24, 25, oracles 0-1
    assert out == f"28 of 28 members are in {tmp_path}\n"


def test_list_names_what_there_is(run, trained):
    code, out, _ = run("list", "--store", trained)
    assert code == 0
    assert "digits  originals                   0       12" in out
    assert "digits  oracles of forget_set_5     0       12" in out
    found = json.loads(run("list", "--store", trained, "--json")[1])
    assert found["tasks"]["cifar10"]["forget_sets"]["forget_set_3"] == 1000
    assert found["methods"]["ga"]["epochs"] == 5
    sizes = [e["bytes"] for e in found["ensembles"]]
    assert sum(sizes) == sum(f.stat().st_size for f in trained.rglob("*") if f.is_file())


def test_list_of_an_empty_store(run, tmp_path):
    code, out, _ = run("list", "--store", tmp_path / "none")
    assert code == 0
    assert out.startswith(f"store {tmp_path / 'none'}: nothing yet\n")


def test_verify_of_a_sound_store(run, trained):
    code, out, _ = run("verify", "--store", trained)
    assert code == 0, out
    assert out.endswith(f"2 ensembles, 0 with problems; {trained}\n")
    found = json.loads(run("verify", "--store", trained, "--json")[1])
    assert found["ok"] is True
    sanity = found["ensembles"][1]["sanity"]
    a, b = (Store(trained).held(e).margins(N, CPU) for e in (ORIGINALS, ORACLES))
    points = klom(b, a)
    assert sanity["forget"] == pytest.approx(points[FORGET.indices].mean())
    assert sanity["shift"] == pytest.approx(
        (a - b)[:, FORGET.indices].mean() - (a - b)[:, FORGET.retain].mean(), rel=1e-4
    )
    assert sanity["sigmas"] > 10


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("oracles/DIGITS/forget_set_5/sd_3____epoch_19.pt", "flip", "is not the file that was wri"),
        ("oracles/DIGITS/forget_set_5/sd_3____epoch_19.pt", "remove", "cannot be read"),
        ("full_models/DIGITS/2__val_margins_19.npy", "cut", "is not the file that was written"),
        ("full_models/DIGITS/manifest.json", "cut", "damaged manifest.json"),
    ],
)
def test_verify_finds_what_was_altered(run, store, file, spoil, message):
    path = store / file
    content = path.read_bytes()
    if spoil == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-9] if spoil == "cut" else content[:200] + b"?" + content[201:])
    code, out, _ = run("verify", "--store", store)
    assert code == 1
    assert "PROBLEM" in out
    assert message in out


def test_oracles_trained_on_all_data_are_found_out(run, store, tmp_path):
    """As the early published ones were: other models, the same data."""
    out = published(store, tmp_path, run)
    shutil.rmtree(out / "oracles")
    more = tmp_path / "more"
    asked = ("--forget-set", "5", "--models", N, "--oracles", "0", "--seed", "1")
    assert run("train", "digits", *asked, "--store", more)[0] == 0
    false = out / "oracles/DIGITS/forget_set_5"
    shutil.copytree(more / "seed_1/full_models/DIGITS", false)
    (false / "manifest.json").unlink()
    shutil.rmtree(false / "members")
    code, text, _ = run("verify", "--store", out)
    assert code == 1
    assert "they look as if they had been trained on all data" in text


def test_points_in_another_order_are_found_out(run, store, tmp_path):
    out = published(store, tmp_path, run, "easydub")
    shutil.rmtree(out / "logits")
    order = np.random.default_rng(0).permutation(1388)
    for file in (out / "margins/digits/oracle/forget_5/retain/mlp").iterdir():
        np.save(file, np.load(file)[order])
    code, text, _ = run("verify", "--store", out)
    assert code == 1
    assert "points in another order, or another dataset" in text


def test_gaps_and_bad_checkpoints_of_published_ensembles_are_problems(run, store, tmp_path):
    out = published(store, tmp_path, run)
    folder = out / "full_models/DIGITS"
    for file in folder.iterdir():
        if "_5." in file.name or "5__" in file.name[:3] or "sd_5_" in file.name:
            file.unlink()
    torch.save({"model.0.weight": torch.zeros(1)}, folder / "sd_2____epoch_19.pt")
    code, text, _ = run("verify", "--store", out)
    assert code == 1
    assert "missing in the middle: member 5" in text
    assert "sd_2____epoch_19.pt is no state dict of this task: 0.bias is missing" in text


def test_a_weak_set_trained_here_is_a_note_and_no_problem(run, store):
    """Ten random points of digits: even at N = 100 hardly to be told from all data (measured)."""
    run("train", "digits", "--forget-set", "1", "--models", N, "--store", store)
    code, out, _ = run("verify", "--store", store)
    assert code == 0, out
    assert out.count("cannot be told from the originals") == 1  # those of set 5 can


def spoilt(out, what):
    """An exported store in which something is not as it should be."""
    oracles, originals = out / "oracles/DIGITS/forget_set_5", out / "full_models/DIGITS"
    if what == "copies":
        for name in ("1__train_margins_19.npy", "1__val_margins_19.npy"):
            shutil.copy(oracles / name, oracles / name.replace("1", "2", 1))
    if what == "originals":
        for part in ("train", "val"):
            shutil.copy(
                originals / f"3__{part}_margins_19.npy", oracles / f"3__{part}_margins_19.npy"
            )
    if what == "diverged":
        for part in ("train", "val"):
            file = oracles / f"4__{part}_margins_19.npy"
            np.save(file, 1000 * np.load(file))
    if what == "val order":
        order = np.random.default_rng(0).permutation(359)
        for file in oracles.glob("*__val_margins_19.npy"):
            np.save(file, np.load(file)[order])
    if what == "twice":
        shutil.copy(oracles / "5__val_margins_19.npy", oracles / "05__val_margins_19.npy")
    if what == "other models":
        for part in ("train", "val"):
            a, b = (originals / f"{i}__{part}_margins_19.npy" for i in (0, 1))
            content = a.read_bytes()
            a.write_bytes(b.read_bytes())
            b.write_bytes(content)
    if what == "stacked":
        np.save(originals / "train_margins_all.npy", np.zeros(3))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("copies", "members 1 and 2 are one and the same"),
        ("originals", "some of them are originals, margin for margin"),
        ("diverged", "member 4 is far from the others"),
        ("val order", "points in another order, or another dataset"),
        ("twice", "it is not known which counts; move one away"),
        ("other models", "the margins of member 0 are not those of its checkpoint"),
        ("stacked", "has shape (3,): [members, points, ...] is expected"),
    ],
)
def test_verify_finds_published_ensembles_that_are_wrong(run, store, tmp_path, what, message):
    out = published(store, tmp_path, run)
    spoilt(out, what)
    code, text, _ = run("verify", "--store", out)
    assert code == 1
    assert message in text
    assert text.count("digits: ") == 2  # one bad ensemble does not hide the others
    assert run("list", "--store", out)[0] == 0


def test_a_file_of_indices_that_is_another_is_refused(run, store, tmp_path):
    out = published(store, tmp_path, run)
    np.save(out / "forget_set_indices/DIGITS/forget_set_5.npy", np.arange(50))
    code, text, _ = run("verify", "--store", out)
    assert code == 1
    assert "holds other indices (50) than forget_set_5 of digits has (50)" in text


def test_pytest_trains_nothing_beside_a_published_ensemble(run, store, tmp_path, project):
    out = published(store, tmp_path, run)
    before = sorted(out.rglob("*"))
    args = ["--klom-method=ga", f"--klom-store={out}", "--klom-forget-set=1"]
    result = project(*args)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*4 of 4 oracles of forget_set_1 are not in the store*"])
    assert sorted(out.rglob("*")) == before
    project(*args, "--klom-missing=train").assert_outcomes(passed=1)


def test_a_copied_tree_is_not_taken_for_what_it_says(run, store):
    shutil.copytree(store / "oracles", store / "seed_1/oracles")
    code, text, _ = run("verify", "--store", store)
    assert code == 1
    assert "seed_1/oracles/DIGITS/forget_set_5 says that it is oracles/DIGITS/forget_set_5" in text


def test_files_that_are_no_forget_set_are_left_alone(run, store):
    folder = store / "forget_set_indices/DIGITS"
    folder.mkdir(parents=True)
    for name in ("._forget_set_1.npy", "5.npy", "forget-set.npy"):
        (folder / name).write_bytes(b"")
    assert run("verify", "--store", store)[0] == 0
    assert run("train", "digits", "--forget-set", "5", "--models", N, "--store", store)[0] == 0


def test_huge_numbers_in_names_are_numbers_too(run, tmp_path):
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        for name in ("1", "20240101120000"):
            np.save(tmp_path / side / f"{name}.npy", ORACLE[0])
    code, _, err = run("score", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "members 2 to 20240101119999" in err


def test_pytest_refuses_oracles_that_are_originals(run, store, tmp_path, project):
    """Before anything is unlearned: doing nothing would look perfect."""
    out = published(store, tmp_path, run)
    shutil.rmtree(out / "oracles/DIGITS/forget_set_5")
    shutil.copytree(out / "full_models/DIGITS", out / "oracles/DIGITS/forget_set_5")
    result = project(
        "--klom-method=ga", f"--klom-store={out}", "--klom-forget-set=5", f"--klom-models={N}"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*the published oracles of forget_set_5 cannot be used: they look as if they had been*"]
    )


def test_list_of_methods_says_what_each_sees_needs_and_costs(run):
    code, out, _ = run("list", "--methods")
    assert code == 0
    lines = {line.split()[0]: re.split(r"  +", line) for line in out.splitlines()}
    assert lines["method"] == ["method", "year", "sees", "needs", "cost in examples", "code"]
    assert {*lines} >= {*METHODS}
    assert lines["msg"][2:5] == ["forget, retain", "conv layers", "F + min(F, R) + epochs * R"]
    assert lines["oracle_matching"][2] == "forget, retain, oracles"
    assert lines["ssd"][1::4] == ["2024", "if-loops/selective-synaptic-dampening"]
