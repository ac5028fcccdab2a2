"""`klom score` of what is easily taken for something else."""

import json

import numpy as np
import pytest
from helpers.margin_files import (
    ORACLE,
    RNG,
    TRAIN,
    UNLEARNED,
    F,
    R,
    write,
    write_folder,
    write_whole,
)
from helpers.slow_klom import SLOW

from klom_bench import klom


def test_score_of_folders_that_hold_something_else(run, tmp_path):
    write_whole(tmp_path / "b", UNLEARNED, ".npy")
    for name, message in [
        ("train_logits_0.pt", "it holds logits; klom_bench.margins(logits, labels) makes margins"),
        ("sd_0____epoch_23.pt", "it holds checkpoints"),
        ("notes.txt", "it holds notes.txt; known are 3.npy, model_3.npy"),
    ]:
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_bytes(b"")
        code, _, err = run("score", folder, tmp_path / "b.npy")
        assert code == 2
        assert message in err


def test_score_of_different_models_in_a_file_is_refused(run, tmp_path):
    np.savez(tmp_path / "a.npz", train=ORACLE[:, :TRAIN], val=ORACLE[:9, TRAIN:])
    write(tmp_path / "b", UNLEARNED, ".npz")
    code, _, err = run("score", tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 2
    assert "different numbers of models: 20 of train, 9 of val" in err


def test_a_score_that_is_nan_is_null(run, tmp_path):
    """Where the published code gives nan: all unlearned margins beyond its clip."""
    a = write_whole(tmp_path / "a", np.full((5, 2), 200, np.float32), ".npy")
    b = write_whole(tmp_path / "b", np.full((5, 2), 0, np.float32), ".npy")
    code, out, _ = run("score", a, b, "--estimator", "data_unlearning_bench", "--json")
    assert code == 0
    assert json.loads(out)["scores"]["all"]["mean"] is None


def test_retain_only_margins_on_both_sides_are_not_taken_for_all(run, tmp_path):
    """Forget rows must never be cut out of retain margins."""
    for side, m in (("a", ORACLE), ("b", UNLEARNED)):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "retain.npy", m[:, R])
        np.save(tmp_path / side / "val.npy", m[:, TRAIN:])
    np.save(tmp_path / "f.npy", F)
    args = ["score", tmp_path / "a", tmp_path / "b", "--forget-indices", tmp_path / "f.npy"]
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert "retain margins only" in err
    assert "give --train-points" in err
    found = json.loads(run(*args, "--train-points", TRAIN, "--json")[1])["scores"]
    assert list(found) == ["retain", "val"]
    assert found["retain"]["mean"] == pytest.approx(klom(ORACLE, UNLEARNED)[R].mean(), abs=1e-12)


def test_living17_s_retain_only_margins_are_recognised(run, tmp_path):
    m = RNG.normal(size=(3, 43_700)).astype(np.float32)
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        np.save(tmp_path / side / "train_margins_all.npy", m)
    np.save(tmp_path / "f.npy", np.arange(500))
    code, _, err = run(
        "score", tmp_path / "a", tmp_path / "b", "--forget-indices", tmp_path / "f.npy"
    )
    assert code == 2
    assert "make the 44200 train points of Living-17" in err


def test_unsorted_indices_and_arrays_of_forget_points_go_together(run, tmp_path):
    """As EasyDUB's set 10: forget arrays are in the order of the file of indices."""
    given = np.array([31, 3, 7])
    for side, m in (("a", ORACLE), ("b", UNLEARNED)):
        (tmp_path / side).mkdir()
        train = (
            {"train": m[:, :TRAIN]} if side == "b" else {"retain": m[:, R], "forget": m[:, given]}
        )
        for part, array in train.items():
            np.save(tmp_path / side / f"{part}.npy", array)
    np.save(tmp_path / "f.npy", given)
    out = run(
        "score", tmp_path / "a", tmp_path / "b", "--forget-indices", tmp_path / "f.npy", "--json"
    )[1]
    expected = klom(ORACLE, UNLEARNED)[F].mean()
    assert json.loads(out)["scores"]["forget"]["mean"] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("estimator", ["default", "data_unlearning_bench"])
def test_one_diverged_oracle_is_refused_or_named(run, tmp_path, estimator):
    wild = ORACLE.copy()
    wild[4] *= 1000
    a, b = write(tmp_path / "a", wild, ".npz"), write(tmp_path / "b", UNLEARNED, ".npz")
    code, _, err = run("score", a, b, "--estimator", estimator)
    assert code == (2 if estimator == "default" else 0)
    assert "rows 4 are far from the other oracles" in err


def mixed(folder, what):
    """A folder with 20 oracles a file each, and something that does not belong there."""
    write_folder(folder, ORACLE, "a file a model")
    if what == "twice":
        np.save(folder / "05__train_margins_23.npy", ORACLE[5, :TRAIN] + 100)
    if what == "stacked":
        np.save(folder / "train_margins_all.npy", ORACLE[:3, :TRAIN])
    if what == "dtype":
        np.save(folder / "0__train_margins_23.npy", ORACLE[0, :TRAIN].astype(int))
    if what == "epochs":
        for i in range(10, 20):
            for part in ("train", "val"):
                for file in folder.glob(f"{i}__{part}_margins_23.npy"):
                    file.rename(folder / f"{i}__{part}_margins_15.npy")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("twice", "are both of the same model: which one?"),
        ("stacked", "and in a file a model: which?"),
        ("dtype", "of float32, 0__train_margins_23.npy beside it has (40,) of int64"),
    ],
)
def test_folders_that_say_two_things_are_refused(run, tmp_path, what, message):
    mixed(tmp_path / "a", what)
    b = write(tmp_path / "b", UNLEARNED, "files of all")
    code, _, err = run("score", tmp_path / "a", b)
    assert code == 2
    assert message in err


def test_only_the_last_epoch_is_scored(run, tmp_path):
    mixed(tmp_path / "a", "epochs")
    b = write(tmp_path / "b", UNLEARNED, "files of all")
    code, out, err = run("score", tmp_path / "a", b, "--json")
    assert code == 0
    assert json.loads(out)["members"]["oracle"] == 10
    assert "margins of epochs [15] were left aside for 23" in err


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("train_logits_0.npy", ORACLE, "holds no margins: it holds logits"),
        ("a.npz", {"x": ORACLE > 0}, "holds bool values"),
        ("a.npz", {"x": ORACLE + 1j}, "holds complex"),
        ("a.npz", {"train": ORACLE, "train_margins": ORACLE}, "has one part twice"),
        ("a.npz", {"eval": ORACLE, "val": ORACLE}, "has arrays named eval"),
        ("a.txt", ORACLE, "is not .npy, .npz or .pt"),
    ],
)
def test_files_of_another_kind_are_refused(run, tmp_path, name, array, message):
    with (tmp_path / name).open("wb") as stream:
        np.savez(stream, **array) if isinstance(array, dict) else np.save(stream, array)
    b = write_whole(tmp_path / "b", UNLEARNED, ".npy")
    code, _, err = run("score", tmp_path / name, b)
    assert code == 2
    assert message in err


def test_arrays_the_other_way_round_are_noticed(run, tmp_path):
    for side in ("a", "b"):
        np.save(tmp_path / f"{side}.npy", RNG.normal(size=(50, 20)).astype(np.float32))
    code, _, err = run("score", tmp_path / "a.npy", tmp_path / "b.npy")
    assert code == 0
    assert "has 50 models and 20 points (all): margins are [models, points]" in err


def test_git_lfs_pointers_are_told(run, tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    for name in ("a.npy", "b.pt"):
        (tmp_path / name).write_text(pointer)
        code, _, err = run("score", tmp_path / name, tmp_path / name)
        assert code == 2
        assert "is a pointer of Git LFS, not the file itself: run `git lfs pull`" in err


def test_models_that_are_named_by_a_word_and_a_number(run, tmp_path):
    for side, m in (("a", ORACLE), ("b", UNLEARNED)):
        (tmp_path / side).mkdir()
        for i, row in enumerate(m):
            np.save(tmp_path / side / f"model_{i}.npy", row)
    np.save(tmp_path / "a/what_is_this.npy", ORACLE[0])
    code, out, err = run("score", tmp_path / "a", tmp_path / "b", "--json")
    assert code == 0
    expected = klom(ORACLE, UNLEARNED).mean()
    assert json.loads(out)["scores"]["all"]["mean"] == pytest.approx(expected, abs=1e-12)
    assert "not read: what_is_this.npy" in err


def test_odd_input_is_remarked_on(run, tmp_path):
    a = write_whole(tmp_path / "a", ORACLE, ".npy")
    twice = write_whole(tmp_path / "twice", UNLEARNED[[0, *range(19)]], ".npy")
    assert "some models are there twice, margin for margin" in run("score", a, twice)[2]
    few = write_whole(tmp_path / "few", ORACLE[:5], ".npy")
    b = write_whole(tmp_path / "b", UNLEARNED[:5], ".npy")
    assert "5 models are few: the floor is high" in run("score", few, b)[2]
    far = write_whole(tmp_path / "far", UNLEARNED + 200, ".npy")
    err = run("score", a, far, "--estimator", "attribute_to_delete")[2]
    assert "points have no score: the published code gives nan there" in err


def test_copies_of_the_oracles_are_refused(run, tmp_path):
    a = write_whole(tmp_path / "a", ORACLE, ".npy")
    half = write_whole(tmp_path / "half", np.concatenate([UNLEARNED[:10], ORACLE[:10]]), ".npy")
    code, out, err = run("score", a, half)
    assert (code, out) == (2, "")
    assert "10 of 20 models (the first is row 10) have the margins of a model in" in err


@pytest.mark.parametrize("points", ["0", "-5", "30"])
def test_train_points_that_do_not_fit(run, tmp_path, points):
    a, b = write(tmp_path / "a", ORACLE, ".npz"), write(tmp_path / "b", UNLEARNED, ".npz")
    code, _, err = run("score", a, b, "--train-points", points)
    assert code == 2
    assert "at least 1" in err or "has margins of 40 train points, not of 30" in err


@pytest.mark.parametrize("n", [1, 2])
def test_json_of_very_few_models(run, tmp_path, n):
    sides = (("a", ORACLE), ("b", UNLEARNED))
    a, b = (write_whole(tmp_path / name, side[:n], ".npy") for name, side in sides)
    for estimator in SLOW:
        code, out, _ = run("score", a, b, "--json", "--estimator", estimator)
        assert code == 0
        json.loads(out)
