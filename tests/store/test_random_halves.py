"""Models on random halves of the train points, from which datamodels are estimated."""

import json

import numpy as np
import pytest
import torch

from klom_bench import margins
from klom_bench.cell.loading import logits_of
from klom_bench.cli import main
from klom_bench.errors import KlomError
from klom_bench.store.store import Store
from klom_bench.tasks import BUILT_IN, DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

CPU = torch.device("cpu")
HALVES = EnsembleId(DIGITS, "subset", 0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("halves"))
    store.complete([(HALVES, 30)], CPU)
    return store


def test_each_member_sees_a_half_of_its_own():
    masks = HALVES.masks(40)
    assert masks.shape == (40, DIGITS.train_points)
    assert (masks.sum(1) == DIGITS.train_points // 2).all()
    assert len(np.unique(masks, axis=0)) == 40
    together = masks.astype(float).T @ masks  # how often two points are seen together
    assert together.mean() == pytest.approx(10, rel=0.02)
    other = EnsembleId(DIGITS, "subset", 1).masks(1)
    assert (other[0] != masks[0]).any()


def test_what_a_member_saw_is_what_it_knows(store):
    """Margins are larger on the points of a member's own half."""
    z = logits_of(DIGITS, store.held(HALVES).states_of, 30, CPU)[:, : DIGITS.train_points]
    m = margins(z, DIGITS.data.y_train).numpy()
    masks = HALVES.masks(30)
    own = [row[mask].mean() - row[~mask].mean() for row, mask in zip(m, masks, strict=True)]
    assert min(own) > 0.2
    swapped = [
        row[mask].mean() - row[~mask].mean() for row, mask in zip(m, masks[::-1], strict=True)
    ]
    assert abs(np.mean(swapped)) < 0.1


def test_the_store_lists_and_verifies_them(store, capsys):
    assert main(["list", "--store", str(store.root)]) == 0
    assert "models on random halves" in capsys.readouterr().out
    assert main(["verify", "--store", str(store.root)]) == 0
    file = next((store.root / "random_halves" / "DIGITS").glob("sd_7_*"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + b"x")
    assert main(["verify", "--store", str(store.root)]) == 1
    file.write_bytes(content)


def test_other_halves_are_another_ensemble(store):
    path = store.root / "random_halves" / "DIGITS" / "manifest.json"
    before = path.read_bytes()
    content = json.loads(before)
    content["identity"]["first_half_sha256"] = "0" * 64
    path.write_text(json.dumps(content))
    with pytest.raises(KlomError, match="is another one: first_half_sha256 is '0000"):
        store.held(HALVES).states_of(range(3))
    path.write_bytes(before)


def test_nobody_publishes_them(tmp_path):
    ensemble = EnsembleId(BUILT_IN["cifar10"], "subset", 0)
    with pytest.raises(KlomError, match=r"not in the store|there are no|klom download"):
        Store(tmp_path, "error").complete([(ensemble, 2000)], CPU)
    digits = Store(tmp_path, "error")
    message = r"2000 of 2000 models on random halves of digits are not in the store .*run once with"
    with pytest.raises(KlomError, match=message):
        digits.complete([(HALVES, 2000)], CPU)
