"""`klom score`: every kind of file, and bad ones."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.margin_files import (
    ORACLE,
    TRAIN,
    UNLEARNED,
    F,
    R,
    write,
    write_folder,
    write_whole,
)
from helpers.slow_klom import SLOW
from scipy import stats

from klom_bench import klom
from klom_bench.metrics.excess import excess

KINDS = [".npz", "a file a model", "files of all", "easydub"]


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
    assert code == 2
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
    assert (code, out) == (2, "")
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
    assert code == 2
    assert message in err


def test_score_tells_errors_excess_and_chance(run, tmp_path):
    a, b = (write_whole(tmp_path / n, x, ".npy") for n, x in (("a", ORACLE), ("b", UNLEARNED)))
    found = json.loads(run("score", a, b, "--json")[1])
    of = found["means"]["all"]
    assert of["mean"]["value"] == found["scores"]["all"]["mean"]
    assert of["reverse_mean"]["value"] == found["reverse"]["all"]["mean"]
    freedom = 1 / (1 / (min(len(ORACLE), len(UNLEARNED)) - 1) + 1 / 39)
    for mean in of.values():
        away = stats.t.ppf(0.975, freedom) * mean["se"]
        assert mean["high"] - mean["value"] == pytest.approx(away)
        assert mean["value"] - mean["low"] == pytest.approx(away)
    assert found["excess"]["all"]["value"] == pytest.approx(excess(ORACLE, UNLEARNED).mean())
    assert 0 < found["retrained"]["p"] <= 1
    text = run("score", a, b)[1]
    assert f"{found['excess']['all']['value']:.2f} ±" in text
    assert f"p = {found['retrained']['p']:.3f}" in text


def test_score_of_four_models_has_no_excess(run, tmp_path):
    few = (("a", ORACLE[:4]), ("b", UNLEARNED[:4]))
    a, b = (write_whole(tmp_path / n, x, ".npy") for n, x in few)
    found = json.loads(run("score", a, b, "--json")[1])
    assert found["excess"] == {}
    assert found["retrained"] is None
    assert "n/a" in run("score", a, b)[1]
