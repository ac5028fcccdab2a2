"""Margins in files, of every kind."""

import numpy as np
import torch

from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")
FORGET = DIGITS.forget_set("forget_set_5")
ORIGINALS = EnsembleId(DIGITS, "original", 0)
ORACLES = EnsembleId(DIGITS, "oracle", 0, FORGET)
N = 12
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


def write(root, m, kind):
    return (write_whole if kind.startswith(".") else write_folder)(root, m, kind)


def export(run, store, out, layout):
    """`klom export` of all that is there of forget_set_5."""
    what = ("digits", "--forget-set", "5", "--models", N, "--layout", layout)
    return run("export", out, *what, "--store", store)


def published(store, tmp_path, run, layout="card"):
    code, out, _ = export(run, store, tmp_path / "out", layout)
    assert code == 0, out
    return tmp_path / "out"
