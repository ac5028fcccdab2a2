"""The `klom` command: on real stores, with independent scores, and with everything that is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from slow_klom import SLOW

from klom_bench import cli, klom
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")
FORGET = DIGITS.forget_set("forget_set_5")
ORIGINALS = EnsembleId(DIGITS, "original", 0)
ORACLES = EnsembleId(DIGITS, "oracle", 0, FORGET)
N = 12


@pytest.fixture
def run(capsys):
    def run(*args):
        code = cli.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Twelve originals and oracles of forget_set_5, trained by the command."""
    store = tmp_path_factory.mktemp("cli") / "store"
    args = ["train", "digits", "--forget-set", "5", "--models", str(N), "--store", str(store)]
    assert cli.main(args) == 0
    return store


@pytest.fixture
def store(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "store", ignore=shutil.ignore_patterns("*.lock"))
    return tmp_path / "store"


# score

RNG = np.random.default_rng(0)
ORACLE, UNLEARNED = (RNG.normal(mean, 1, (20, 50)).astype(np.float32) for mean in (0, 0.5))
TRAIN, F = 40, np.array([3, 7, 31])
R = np.setdiff1d(np.arange(TRAIN), F)


def write_whole(root, m, suffix):
    path = root.with_suffix(suffix)
    path.parent.mkdir(exist_ok=True, parents=True)
    if suffix == ".npy":
        np.save(path, m)
    elif suffix == ".pt":
        torch.save(torch.from_numpy(m), path)
    else:
        np.savez(path, train_margins=m[:, :TRAIN], val_margins=m[:, TRAIN:])
    return path


def write_folder(root, m, kind):
    root.mkdir(parents=True)
    for i, row in enumerate(m):
        if kind == "a file a model":
            np.save(root / f"{i}__train_margins_23.npy", row[:TRAIN])
            np.save(root / f"{i:02}__val_margins_23.npy", row[TRAIN:])
            np.save(root / f"{i}__val_margins_10.npy", row[:TRAIN] * 0)  # an earlier epoch
        elif kind == "easydub":
            for part, rows in {"retain": R, "forget": F, "val": np.arange(TRAIN, 50)}.items():
                (root / part / "resnet9").mkdir(parents=True, exist_ok=True)
                np.save(root / part / "resnet9" / f"id_{i}_epoch_23.npy", row[rows])
    if kind == "files of all":
        torch.save(torch.from_numpy(m[:, :TRAIN].copy()), root / "train_margins_all.pt")
        np.save(root / "val.npy", m[:, TRAIN:])
    return root


KINDS = [".npz", "a file a model", "files of all", "easydub"]


def write(root, m, kind):
    return (write_whole if kind.startswith(".") else write_folder)(root, m, kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["default", "data_unlearning_bench"])
def test_score_of_every_kind(run, tmp_path, kind, estimator):
    """Against KLOM written from its definition."""
    a, b = write(tmp_path / "a", ORACLE, kind), write(tmp_path / "b", UNLEARNED, ".npz")
    np.save(tmp_path / "f.npy", F)
    args = ["--forget-indices", tmp_path / "f.npy", "--estimator", estimator, "--json"]
    code, out, _ = run("score", a, b, *args)
    found = json.loads(out)
    assert code == 0
    slow = np.array([SLOW[estimator](ORACLE[:, j], UNLEARNED[:, j]) for j in range(50)])
    for split, rows in {"forget": F, "retain": R, "val": np.arange(TRAIN, 50)}.items():
        scores = found["scores"][split]
        assert scores["mean"] == pytest.approx(slow[rows].mean(), abs=1e-12)
        assert scores["p95"] == pytest.approx(np.percentile(slow[rows], 95), abs=1e-12)
        assert found["points"][split] == len(rows)
        assert found["floor"][split]["mean"] > 1
    assert found["members"] == {"oracle": 20, "unlearned": 20}
    assert found["estimator"]["name"] == estimator


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_score_of_one_array(run, tmp_path, suffix):
    a, b = (
        write_whole(tmp_path / "a", ORACLE, suffix),
        write_whole(tmp_path / "b", UNLEARNED, suffix),
    )
    code, out, _ = run("score", a, b, "--json")
    assert code == 0
    whole = json.loads(out)["scores"]
    assert whole["all"]["mean"] == pytest.approx(klom(ORACLE, UNLEARNED).mean(), abs=1e-12)
    np.save(tmp_path / "f.npy", F)
    both = ["--forget-indices", tmp_path / "f.npy", "--train-points", TRAIN]
    code, out, _ = run("score", a, b, "--json", *both)
    assert list(json.loads(out)["scores"]) == ["forget", "retain", "val"]
    code, out, _ = run("score", a, b, *both)
    assert out.startswith(
        "KLOM of 20 unlearned against 20 oracles, estimator default (KL oracle ||"
    )
    assert "forget       3" in out


def test_score_takes_retain_only_oracles(run, tmp_path):
    """As published for Living-17: retain and val are scored, and it is said."""
    for part, rows in {"train": R, "val": np.arange(TRAIN, 50)}.items():
        (tmp_path / "a").mkdir(exist_ok=True)
        torch.save(torch.from_numpy(ORACLE[:, rows].copy()), tmp_path / f"a/{part}_margins_all.pt")
    b = write(tmp_path / "b", UNLEARNED, "files of all")
    np.save(tmp_path / "f.npy", F)
    code, out, err = run(
        "score", tmp_path / "a", b, "--forget-indices", tmp_path / "f.npy", "--json"
    )
    assert code == 0
    found = json.loads(out)["scores"]
    assert list(found) == ["retain", "val"]
    expected = klom(ORACLE[:, R], UNLEARNED[:, R]).mean()
    assert found["retain"]["mean"] == pytest.approx(expected, abs=1e-12)
    assert "forget margins are on one side only and were not scored" in err


def test_score_needs_no_torch_for_npy(tmp_path):
    a, b = write_folder(tmp_path / "a", ORACLE, "a file a model"), tmp_path / "b.npz"
    write_whole(tmp_path / "b", UNLEARNED, ".npz")
    code = (
        "import sys; from klom_bench.cli import main; "
        f"assert main(['score', {str(a)!r}, {str(b)!r}]) == 0; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_score_says_which_models_are_missing_in_between(run, tmp_path):
    a, b = (write(tmp_path / n, m, "a file a model") for n, m in (("a", ORACLE), ("b", UNLEARNED)))
    for file in tmp_path.glob("a/*"):
        if int(file.name.split("_")[0]) == 7:
            file.unlink()
    code, out, err = run("score", a, b, "--json")
    assert code == 0
    assert json.loads(out)["members"] == {"oracle": 19, "unlearned": 20}
    assert "margins of member 7 are missing in between" in err
    (tmp_path / "b/3__train_margins_23.npy").unlink()
    code, _, err = run("score", a, b)
    assert code == 1
    assert "are of different models: model 3 is not in all of them" in err


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def save(array):
    return lambda path: np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: p.unlink(), "is not there"),
        (lambda p: p.write_bytes(p.read_bytes()[:-100]), "cannot be read: is it whole?"),
        (lambda p: p.write_bytes(b""), "cannot be read: is it whole?"),
        (save(np.array([Evil()])), "is refused: it holds pickled objects, which could run code"),
        (save(ORACLE[:, 0]), "the all margins have shape (20,): [members, points] expected"),
        (save(ORACLE[:, :0]), "[members, points] expected"),
        (save(ORACLE[:, :49]), "are they of the same dataset and forget set?"),
        (
            save(np.where(np.arange(50) == 9, np.nan, ORACLE)),
            "margin of member 0 at point 9 is nan",
        ),
        (save(np.array([["a"]])), "numbers are expected"),
        (save(ORACLE[None]), "[members, points] expected"),
    ],
)
def test_score_of_bad_files(run, tmp_path, spoil, message):
    a, b = (
        write_whole(tmp_path / "a", ORACLE, ".npy"),
        write_whole(tmp_path / "b", UNLEARNED, ".npy"),
    )
    spoil(a)
    code, out, err = run("score", a, b)
    assert (code, out) == (1, "")
    assert message in err


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.array([3, 700]), "index 700, the train points are 0..39: does it belong to another"),
        (np.array([-1]), "index -1"),
        (np.array([], dtype=int), "at least one entry"),
        (np.array([1.5]), "integer indices"),
        (np.array([3, 3]), "holds index 3 more than once"),
        (np.arange(TRAIN), "holds all train points"),
    ],
)
def test_score_with_bad_indices(run, tmp_path, indices, message):
    a, b = write(tmp_path / "a", ORACLE, ".npz"), write(tmp_path / "b", UNLEARNED, ".npz")
    np.save(tmp_path / "f.npy", indices)
    code, _, err = run("score", a, b, "--forget-indices", tmp_path / "f.npy")
    assert code == 1
    assert message in err


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
        assert code == 1
        assert message in err


def test_score_of_different_models_in_a_file_is_refused(run, tmp_path):
    np.savez(tmp_path / "a.npz", train=ORACLE[:, :TRAIN], val=ORACLE[:9, TRAIN:])
    write(tmp_path / "b", UNLEARNED, ".npz")
    code, _, err = run("score", tmp_path / "a.npz", tmp_path / "b.npz")
    assert code == 1
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
    assert (code, out) == (1, "")
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
    assert code == 1
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
    assert code == (1 if estimator == "default" else 0)
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
    assert code == 1
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
    assert code == 1
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
        assert code == 1
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
    assert "some models are there twice, margin for margin" in run("score", a, a)[2]
    few = write_whole(tmp_path / "few", ORACLE[:5], ".npy")
    b = write_whole(tmp_path / "b", UNLEARNED[:5], ".npy")
    assert "5 models are few: the floor is high" in run("score", few, b)[2]
    far = write_whole(tmp_path / "far", UNLEARNED + 200, ".npy")
    err = run("score", a, far, "--estimator", "attribute_to_delete")[2]
    assert "points have no score: the published code gives nan there" in err


@pytest.mark.parametrize("points", ["0", "-5", "30"])
def test_train_points_that_do_not_fit(run, tmp_path, points):
    a, b = write(tmp_path / "a", ORACLE, ".npz"), write(tmp_path / "b", UNLEARNED, ".npz")
    code, _, err = run("score", a, b, "--train-points", points)
    assert code == 1
    assert "at least 1" in err or "has margins of 40 train points, not of 30" in err


@pytest.mark.parametrize("n", [1, 2])
def test_json_of_very_few_models(run, tmp_path, n):
    a, b = (write_whole(tmp_path / k, ORACLE[:n], ".npy") for k in "ab")
    for estimator in SLOW:
        code, out, _ = run("score", a, b, "--json", "--estimator", estimator)
        assert code == 0
        json.loads(out)


# train, list, verify, export


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
            "30",
            "--oracles",
            "5",
            "--shard",
            f"{i}/3",
            "--store",
            tmp_path,
        )
        assert code == 0
        trained.append(len(list(tmp_path.rglob("sd_*"))) - before)
    assert trained == [25, 5, 5]  # packs of 25: originals 0-24, 25-29, oracles 0-4
    assert out == f"35 of 35 members are in {tmp_path}\n"


def test_list_names_what_there_is(run, trained):
    code, out, _ = run("list", "--store", trained)
    assert code == 0
    assert "digits  originals                   0       12" in out
    assert "digits  oracles of forget_set_5     0       12" in out
    found = json.loads(run("list", "--store", trained, "--json")[1])
    assert found["tasks"]["cifar10"]["forget_sets"]["forget_set_3"] == 1000
    assert found["methods"]["ga"]["epochs"] == 5
    sizes = [e["bytes"] for e in found["ensembles"]]
    assert sum(sizes) == sum(
        f.stat().st_size for f in trained.rglob("*") if f.is_file() and f.suffix != ".lock"
    )


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


def published(store, tmp_path, run, layout="card"):
    code, out, _ = run(
        "export",
        tmp_path / "out",
        "digits",
        "--forget-set",
        "5",
        "--models",
        N,
        "--layout",
        layout,
        "--store",
        store,
    )
    assert code == 0, out
    return tmp_path / "out"


@pytest.mark.parametrize("layout", ["card", "easydub"])
def test_an_export_is_a_store_with_the_same_margins(run, store, tmp_path, layout):
    out = published(store, tmp_path, run, layout)
    for ensemble in (ORIGINALS, ORACLES):
        mine, theirs = Store(store), Store(out, "error")
        assert np.array_equal(
            mine.held(ensemble).margins(N, CPU), theirs.held(ensemble).margins(N, CPU)
        )
        for a, b in zip(
            mine.held(ensemble).states(N), theirs.held(ensemble).states(N), strict=True
        ):
            assert all(torch.equal(a[key], b[key]) for key in a)
    assert run("verify", "--store", out)[0] == 0
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert (
        "0 files written"
        in run(
            "export",
            out,
            "digits",
            "--forget-set",
            "5",
            "--models",
            N,
            "--layout",
            layout,
            "--store",
            store,
        )[1]
    )
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


def test_oracles_trained_on_all_data_are_found_out(run, store, tmp_path):
    """As the early published ones were: other models, the same data."""
    out = published(store, tmp_path, run)
    shutil.rmtree(out / "oracles")
    more = tmp_path / "more"
    run("train", "digits", "--forget-set", "5", "--models", N, "--store", more, "--seed", "1")
    false = out / "oracles/DIGITS/forget_set_5"
    shutil.copytree(more / "seed_1/full_models/DIGITS", false)
    (false / "manifest.json").unlink()
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


def test_a_weak_set_trained_here_is_a_note_and_no_problem(run, tmp_path):
    """Ten random points of digits: even at N = 100 hardly to be told from all data (measured)."""
    run("train", "digits", "--forget-set", "1", "--models", N, "--store", tmp_path)
    code, out, _ = run("verify", "--store", tmp_path)
    assert code == 0, out
    assert "cannot be told from the originals" in out


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


def test_export_of_no_set_in_particular_is_of_those_that_are_there(run, store, tmp_path):
    args = ["export", tmp_path / "out", "digits", "--models", N, "--store"]
    assert run(*args, store)[0] == 0
    assert [p.name for p in (tmp_path / "out/oracles/DIGITS").iterdir()] == ["forget_set_5"]
    code, _, err = run(*args, tmp_path / "none")
    assert code == 1
    assert "holds nothing of digits" in err


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


def test_text_goes_to_terminals_that_know_no_greek(trained):
    done = subprocess.run(
        [sys.executable, "-m", "klom_bench.cli", "list", "--store", str(trained)],
        env={**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "digits", "--seed", "-1"], "--seed must not be negative"),
        (["train", "digitz"], "unknown task 'digitz': did you mean digits or digits_cnn?"),
        (["train", "digits", "--forget-set", "33"], "unknown forget set 'forget_set_33'"),
        (["train", "digits", "--models", "0"], "--models must be at least 1"),
        (["train", "digits", "--shard", "3/3"], "--shard must be I/N with I from 0 to N - 1"),
        (["train", "digits", "--device", "tpu"], "the device must be auto, cpu, cuda or cuda:N"),
        (["verify"], "there is no store"),
        (["score", "a.npy", "b.npy", "--estimator", "defualt"], "did you mean default?"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr(run, tmp_path, args, message):
    more = [] if args[0] == "score" else ["--store", tmp_path / "none"]
    code, out, err = run(*args, *more)
    assert (code, out) == (1, "")
    assert message in err
    assert err.startswith(f"klom {args[0]}: ")


@pytest.mark.parametrize("args", [[], ["scor"], ["score", "a"], ["train", "digits", "--n", "x"]])
def test_wrong_usage_is_exit_code_2(run, args, capsys):
    with pytest.raises(SystemExit) as stop:
        run(*args)
    assert stop.value.code == 2
    assert "usage: klom" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score", "list", "verify", "train", "export", "download"])
def test_help_has_examples_and_exit_codes(run, command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    assert f"\n  klom {command}" in text
    assert "exit codes: 0 done; 1 it could not be done" in text


def test_the_installed_command_and_a_closed_pipe(trained):
    klom = Path(sys.executable).with_name("klom")
    done = subprocess.run(
        f"{klom} list --store '{trained}' | head -1", shell=True, capture_output=True, text=True
    )
    assert done.stdout == f"store {trained}\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_ctrl_c_ends_training_with_130_and_the_next_call_goes_on(tmp_path, run):
    args = [
        sys.executable,
        "-m",
        "klom_bench.cli",
        "train",
        "digits",
        "--forget-set",
        "5",
        "--models",
        "75",
        "--store",
        str(tmp_path),
    ]
    process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True, env={**os.environ})
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("sd_*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; what was finished is kept" in err
    kept = len(Store(tmp_path).held(ORIGINALS).members)
    assert kept
    code, out, _ = run(
        "train", "digits", "--forget-set", "5", "--models", "30", "--store", tmp_path
    )
    assert code == 0
    assert out.startswith("60 of 60 members are in")


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
