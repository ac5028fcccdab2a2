"""Margins and logits in every published layout."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.layouts import (
    CPU,
    DIGITS,
    LABELS,
    LOGITS,
    MARGINS,
    ORACLES,
    ORIGINALS,
    PARTS,
    Evil,
    F,
    N,
    card,
    easydub,
    expected_margins,
    only_margins,
    oracle_models,
    put,
    slow_margins,
)
from helpers.slow_klom import SLOW

from klom_bench.errors import KlomError
from klom_bench.forget_set import checked_forget_set
from klom_bench.metrics.klom import klom
from klom_bench.published.ensemble import PublishedEnsemble
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId


def stacked_logits(root, ensemble):
    """(b) logits of all models in a file."""
    folder = root / "full_models/CIFAR10"
    if ensemble is ORACLES:
        folder = root / f"oracle_models/CIFAR10/{F.name}"
    for part, rows in PARTS.items():
        put(folder / f"{part}_logits_all.pt", LOGITS[ensemble][:, rows])


def epochs(root, ensemble, underscores="__"):
    """(b) logits at several epochs, the last of which counts."""
    folder = root / "full_models/CIFAR10"
    if ensemble is ORACLES:
        folder = root / f"oracle_models/CIFAR10/{F.name}"
    for i in range(N):
        for part, rows in PARTS.items():
            name = f"{i}__{part}_logits{underscores}"
            put(folder / f"{name}10.pt", np.zeros((2, 2), np.float32))
            put(folder / f"{name}15.pt", np.zeros((2, 2), np.float32))
            put(folder / f"{name}23.pt", LOGITS[ensemble][i, rows])


def one_underscore(root, ensemble):
    """(b) older files."""
    epochs(root, ensemble, "_")


def easydub_logits(root, ensemble):
    """(c) logits."""
    easydub(root, ensemble, "logits")


LAYOUTS = [
    card,
    oracle_models,
    only_margins,
    stacked_logits,
    epochs,
    one_underscore,
    easydub,
    easydub_logits,
]


@pytest.mark.parametrize("write", LAYOUTS)
def test_margins_of_every_layout(tmp_path, write):
    """Margins as they are, or made of logits; and the published estimator on them, to 1e-12."""
    for ensemble in (ORIGINALS, ORACLES):
        write(tmp_path, ensemble)
    store = Store(tmp_path, "error")
    held = {e: store.held(e) for e in (ORIGINALS, ORACLES)}
    found = {e: h.margins_of(h.scored, CPU) for e, h in held.items()}
    for ensemble, margins in found.items():
        assert isinstance(held[ensemble], PublishedEnsemble)
        assert margins.dtype == np.float32
        if write not in (only_margins, easydub):  # made of logits
            np.testing.assert_allclose(margins, MARGINS[ensemble], rtol=0, atol=5e-6)
        else:
            assert np.array_equal(margins, MARGINS[ensemble])
    assert store.held(ORACLES).lacks(N) == 0
    store.complete([(ORACLES, N)], CPU)  # nothing to train, nothing written
    some = [0, 1, *F.indices[:3], 49_999, 50_000, 59_999]
    for name in ("data_unlearning_bench", "easydub", "default"):
        fast = klom(found[ORACLES], found[ORIGINALS], name)[some]
        slow = [SLOW[name](found[ORACLES][:, j], found[ORIGINALS][:, j]) for j in some]
        np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.parametrize("write", [card, stacked_logits, easydub_logits])
def test_accuracies_come_from_logits(tmp_path, write):
    write(tmp_path, ORACLES)
    right = LOGITS[ORACLES].argmax(-1) == LABELS.numpy()
    found = Store(tmp_path, "error").held(ORACLES).accuracy(N)
    assert found["forget"] == pytest.approx(right[:, F.indices].mean())
    assert found["retain"] == pytest.approx(right[:, F.retain].mean())
    assert found["val"] == pytest.approx(right[:, 50_000:].mean())


def test_margins_are_preferred_to_logits(tmp_path):
    for write in (stacked_logits, only_margins):
        write(tmp_path, ORACLES)
    assert np.array_equal(Store(tmp_path).held(ORACLES).margins(N, CPU), MARGINS[ORACLES])


def test_of_two_places_the_first_counts(tmp_path):
    """`oracles/` before `oracle_models/`."""
    card(tmp_path, ORACLES)
    oracle_models(tmp_path, ORACLES)
    for file in (tmp_path / "oracle_models").rglob("*margins*"):
        np.save(file, np.load(file) + 1)
    assert np.array_equal(
        Store(tmp_path).held(ORACLES).margins(N, CPU)[:, 50_000:], MARGINS[ORACLES][:, 50_000:]
    )


def test_half_precision_is_widened_first(tmp_path):
    folder = tmp_path / f"oracle_models/CIFAR10/{F.name}"
    for part, rows in PARTS.items():
        put(folder / f"{part}_logits_all.pt", LOGITS[ORACLES][:, rows].astype(np.float16))
    expected = slow_margins(LOGITS[ORACLES].astype(np.float16))
    np.testing.assert_allclose(
        Store(tmp_path).held(ORACLES).margins(N, CPU), expected, rtol=0, atol=5e-6
    )


def test_old_torch_files_are_read(tmp_path):
    only_margins(tmp_path, ORACLES)
    for file in tmp_path.rglob("*.pt"):
        torch.save(torch.load(file), file, _use_new_zipfile_serialization=False)
    assert np.array_equal(Store(tmp_path).held(ORACLES).margins(N, CPU), MARGINS[ORACLES])


def test_forget_arrays_are_in_the_order_of_the_file_of_indices(tmp_path):
    """Set 10's file is not sorted."""
    given = np.random.default_rng(0).permutation(F.indices)
    unsorted = checked_forget_set(F.name, given, 50_000)
    easydub(tmp_path, ORACLES)
    for i in range(N):
        path = tmp_path / f"margins/cifar10/oracle/forget_3/forget/resnet9/id_{i}_epoch_23.npy"
        np.save(path, MARGINS[ORACLES][i, given])
    found = Store(tmp_path).held(replace(ORACLES, forget_set=unsorted)).margins(N, CPU)
    assert np.array_equal(found, MARGINS[ORACLES])


def test_a_diverged_member_is_refused(tmp_path):
    only_margins(tmp_path, ORACLES)
    for part in PARTS:
        path = tmp_path / f"oracle_models/CIFAR10/only_margins/{F.name}/{part}_margins_all.pt"
        margins = torch.load(path)
        margins[1] *= 1000
        torch.save(margins, path)
        with pytest.raises(KlomError, match="member 1 is far from the others"):
            Store(tmp_path).held(ORACLES).margins(N, CPU)


def test_retain_only_files_beside_checkpoints_are_left_aside(checkpoints):
    store, folder, _ = checkpoints
    forget_set = DIGITS.forget_set("forget_set_3")
    oracles = EnsembleId(DIGITS, "oracle", 0, forget_set)
    target = store.root / "oracles/DIGITS/forget_set_3"
    target.mkdir(parents=True)
    for i in range(4):
        (target / f"sd_{i}____epoch_19.pt").write_bytes(
            (folder / f"sd_{i}____epoch_19.pt").read_bytes()
        )
        np.save(target / f"{i}__train_margins_19.npy", np.zeros(1338, np.float32))
    np.testing.assert_allclose(
        store.held(oracles).margins(4, CPU), expected_margins(), rtol=0, atol=1e-5
    )


def test_retain_only_margins_are_told_from_whole_ones(tmp_path):
    folder = tmp_path / f"oracle_models/CIFAR10/only_margins/{F.name}"
    put(folder / "train_margins_all.pt", MARGINS[ORACLES][:, F.retain])
    put(folder / "val_margins_all.pt", MARGINS[ORACLES][:, 50_000:])
    store = Store(tmp_path, "error")
    message = "49000 columns for 50000 train points, those of the retain set: nothing is known of"
    with pytest.raises(KlomError, match=message):
        store.complete([(ORACLES, N)], CPU)
    stacked_logits(tmp_path, ORACLES)  # with logits there is something to make margins of
    assert store.held(ORACLES).margins(N, CPU).shape == (N, 60_000)


@pytest.mark.parametrize(
    ("kind", "spoil", "message"),
    [
        ("logits", lambda a: a[:, :7], r"\(10000, 7\).*\(10000, 10\) is expected"),
        ("logits", lambda a: a[:100], r"\(100, 10\).*\(10000, 10\) is expected"),
        ("margins", lambda a: a[:100, 0], r"\(100,\).*\(10000,\) is expected: margins of val"),
        ("margins", lambda a: a[:, 0] * np.nan, "member 1 at point 50000 is nan"),
        ("margins", lambda a: np.array(list("a" * 10_000)), "numbers are expected"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, kind, spoil, message):
    if kind == "logits":
        easydub_logits(tmp_path, ORACLES)
    else:
        easydub(tmp_path, ORACLES)
    path = tmp_path / f"{kind}/cifar10/oracle/forget_3/val/resnet9/id_1_epoch_23.npy"
    np.save(path, spoil(LOGITS[ORACLES][1, 50_000:]))
    with pytest.raises(KlomError, match=message):
        Store(tmp_path, "error").held(ORACLES).margins(N, CPU)


@pytest.mark.parametrize("suffix", ["npy", "pt"])
def test_truncated_arrays_are_named(tmp_path, suffix):
    if suffix == "npy":
        easydub(tmp_path, ORACLES)
    else:
        card(tmp_path, ORACLES)
    file = next(p for p in sorted(tmp_path.rglob(f"*.{suffix}")) if "1" in p.stem)
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(KlomError, match="cannot be read: is it whole"):
        Store(tmp_path, "error").held(ORACLES).margins(N, CPU)


def test_pickled_arrays_are_refused(tmp_path):
    easydub(tmp_path, ORACLES)
    path = tmp_path / "margins/cifar10/oracle/forget_3/val/resnet9/id_0_epoch_23.npy"
    np.save(path, np.array([Evil()]), allow_pickle=True)
    with pytest.raises(KlomError, match="is refused: it holds pickled objects"):
        Store(tmp_path, "error").held(ORACLES).margins(N, CPU)
