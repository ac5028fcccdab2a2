"""Published checkpoints, and folders that are not what they seem."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.layouts import (
    CIFAR10,
    CPU,
    DIGITS,
    MARGINS,
    ORACLES,
    ORIGINALS,
    STATES,
    Evil,
    N,
    card,
    easydub,
    expected_margins,
    only_margins,
    oracle_models,
)

from klom_bench.ensemble.ensemble import Ensemble, initial_state
from klom_bench.errors import KlomError
from klom_bench.store.store import Store
from klom_bench.tasks.ensemble_id import EnsembleId

SMALL = EnsembleId(DIGITS, "original", 0)


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "model.module.", "module.model."])
@pytest.mark.parametrize(
    "name",
    [
        "full_models/DIGITS/sd_{}____epoch_19.pt",
        "full_models/DIGITS/sd_{}_epoch_19.pt",
        "models/digits/pretrain/mlp/id_{}_epoch_19.pt",
    ],
)
def test_checkpoints_whatever_their_prefix(tmp_path, prefix, name):
    for i, state in enumerate(STATES):
        path = tmp_path / name.format(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({prefix + key: value for key, value in state.items()}, path)
    store = Store(tmp_path, "error")
    for found, state in zip(store.held(SMALL).states_of(range(4)), STATES, strict=True):
        assert all(torch.equal(found[key], value) for key, value in state.items())
    np.testing.assert_allclose(
        store.held(SMALL).margins(4, CPU), expected_margins(), rtol=0, atol=1e-5
    )
    assert [p.name for p in store.held(SMALL).checkpoints(1)] == [name.rpartition("/")[2].format(0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({k: v for k, v in STATES[0].items() if k != "2.bias"}, r"2\.bias is missing"),
        ({**STATES[0], "4.weight": torch.zeros(1)}, r"4\.weight is unknown"),
        ({**STATES[0], "2.bias": torch.zeros(17)}, r"2\.bias is \[17\], not \[10\]"),
        ({**STATES[0], "2.bias": 3.0}, r"2\.bias is no tensor of floating point"),
        ({f"encoder.{k}": v for k, v in STATES[0].items()}, r"0\.weight is missing"),
        (torch.zeros(3), "holds a Tensor: a state dict is expected"),
        ({"0.weight": Evil()}, "is refused: it holds pickled objects, which could run code"),
    ],
)
def test_checkpoints_that_do_not_fit_are_named(checkpoints, content, message):
    store, _, spoil = checkpoints
    spoil(2, content)
    with pytest.raises(KlomError, match=f"sd_2____epoch_19.*{message}"):
        store.held(SMALL).states_of(range(4))


def test_a_truncated_checkpoint_is_named(checkpoints):
    store, folder, _ = checkpoints
    file = folder / "sd_1____epoch_19.pt"
    file.write_bytes(file.read_bytes()[:-5000])
    with pytest.raises(KlomError, match=r"sd_1____epoch_19\.pt cannot be read: is it whole\?"):
        store.held(SMALL).states_of(range(4))


def test_members_missing_in_the_middle_are_named(checkpoints):
    store, folder, _ = checkpoints
    (folder / "sd_1____epoch_19.pt").unlink()
    assert store.held(SMALL).members == [0, 2, 3]
    assert len(store.held(SMALL).states_of(range(3))) == 3
    last, first = store.held(SMALL).states_of([2, 0])
    assert all(torch.equal(last[key], value) for key, value in STATES[3].items())
    assert all(torch.equal(first[key], value) for key, value in STATES[0].items())
    store.complete([(SMALL, 3)], CPU)  # the number 1 is not trained in its place
    assert not list(store.root.rglob("manifest.json"))
    message = "3 of 4 published originals .*missing in the middle: member 1.*ask for 3"
    with pytest.raises(KlomError, match=message):
        store.complete([(SMALL, 4)], CPU)


@pytest.mark.parametrize("missing", ["train", "download", "error"])
def test_nothing_is_trained_into_a_published_folder(checkpoints, missing):
    store, folder, _ = checkpoints
    before = {f: f.read_bytes() for f in folder.iterdir()}
    with pytest.raises(KlomError, match="4 of 5 published originals"):
        Store(store.root, missing).complete([(SMALL, 5)], CPU)
    assert {f: f.read_bytes() for f in folder.iterdir()} == before


def test_other_epochs_only_are_said(tmp_path):
    folder = tmp_path / "oracles/DIGITS/forget_set_3"
    folder.mkdir(parents=True)
    (folder / "sd_0____epoch_10.pt").write_bytes(b"")
    oracles = EnsembleId(DIGITS, "oracle", 0, DIGITS.forget_set("forget_set_3"))
    with pytest.raises(KlomError, match="holds files but no manifest"):
        Store(tmp_path, "error").complete([(oracles, 2)], CPU)


def test_two_families_are_never_mixed(tmp_path):
    """Train margins of one generation of oracles, val margins of another, are no member."""
    card(tmp_path, ORACLES)
    oracle_models(tmp_path, ORACLES)
    for file in (tmp_path / "oracles").rglob("train_logits_*"):
        file.unlink()
    for file in (tmp_path / "oracle_models").rglob("val_logits_*"):
        file.unlink()
    for file in (tmp_path / "oracle_models").rglob("*__val_margins_*"):
        file.unlink()
    assert Store(tmp_path).held(ORACLES).scored == []


def test_another_architecture_s_folder_is_left_alone(tmp_path):
    easydub(tmp_path, ORACLES)
    for folder in list((tmp_path / "margins").rglob("resnet9")):
        other = folder.with_name("a_cnn")
        other.mkdir()
        for file in folder.iterdir():
            np.save(other / file.name, np.load(file) + 9)
    assert np.array_equal(Store(tmp_path).held(ORACLES).margins(N, CPU), MARGINS[ORACLES])


def test_two_files_of_one_member_are_an_error(tmp_path):
    easydub(tmp_path, ORACLES)
    folder = tmp_path / "margins/cifar10/oracle/forget_3/val/resnet9"
    np.save(folder / "id_01_epoch_23.npy", MARGINS[ORACLES][0, 50_000:])
    with pytest.raises(KlomError, match="it is not known which counts"):
        Store(tmp_path).held(ORACLES)


def test_another_seed_is_never_published(tmp_path):
    only_margins(tmp_path, ORACLES)
    assert Store(tmp_path).held(replace(ORACLES, seed=1)).members == []


def test_loading_reads_each_byte_once(tmp_path):
    """As the kernel counts it, on real ResNet-9 checkpoints of 9 MB."""
    folder = tmp_path / "full_models/CIFAR10"
    only_margins(tmp_path, ORIGINALS)
    for i in range(N):
        torch.save(initial_state(CIFAR10.architecture, i), folder / f"sd_{i}____epoch_23.pt")
    held = Store(tmp_path, "error").held(ORIGINALS)
    held.states_of(range(1))  # imports what torch.load imports

    def read():
        with Path("/proc/self/io").open() as counters:
            return int(counters.readline().split()[1])

    before = read()
    states = held.states_of(range(N))
    size = sum(file.stat().st_size for file in held.checkpoints(N))
    assert size <= read() - before < 1.05 * size
    assert Ensemble(CIFAR10.architecture, states).states()[2].keys() == states[2].keys()
