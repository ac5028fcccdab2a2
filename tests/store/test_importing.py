"""Models that were trained elsewhere, made members of the store: all, or none."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.brought import (
    CPU,
    bring,
    brought,
    checkpoints,
    files_in,
    oracles,
    originals,
    state,
)
from helpers.layouts import Evil
from helpers.nets import Net, load, task
from helpers.nets import originals as trained_originals
from safetensors.torch import save_file
from torch import nn

from klom_bench import Recipe, margins
from klom_bench.errors import KlomError
from klom_bench.store.merge import merge
from klom_bench.store.store import Store
from klom_bench.store.verify import verify


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


def alone(seed):
    """Margins of one model on all points, computed without the package's ensembles."""
    model = Net()
    model.load_state_dict(state(seed))
    data = load()
    with torch.no_grad():
        z = model.eval()(torch.cat([data.x_train, data.x_val]))
    return margins(z, torch.cat([data.y_train, data.y_val])).numpy()


def test_they_are_members_as_if_they_had_been_trained(runs, root):
    done = bring(root, originals(), checkpoints(runs, range(4)))
    assert (done.new, done.there) == ([0, 1, 2, 3], [])
    held = Store(root).complete([(originals(), 4)], CPU)[0]
    assert held.members == [0, 1, 2, 3]
    assert not held.published
    for i, (found, mine) in enumerate(zip(held.states_of(range(4)), held.margins(4), strict=True)):
        assert all(torch.equal(found[name], value) for name, value in state(i).items())
        np.testing.assert_allclose(mine, alone(i), atol=1e-5)
    assert np.isnan(held.seconds)
    assert np.isnan(held.examples)
    origin = held.manifest.members[2].imported
    assert origin["file"] == str(runs / "run_2/model.pt")
    assert origin["pattern"] == "run_{member}/model.pt"
    assert not list((root / ".importing").glob("members"))


NESTINGS = {
    "state_dict": lambda s: {"epoch": 3, "state_dict": s, "optimizer": {"state": {}}},
    "model_state_dict": lambda s: {"model_state_dict": s},
    "model, from DataParallel": lambda s: {"model": {f"module.{n}": v for n, v in s.items()}},
    "compiled": lambda s: {f"_orig_mod.{n}": v for n, v in s.items()},
    "double precision": lambda s: {n: v.double() if v.is_floating_point() else v for n, v in s.items()},
    "parameters": lambda s: {
        n: nn.Parameter(v) if v.is_floating_point() else v for n, v in s.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("nested", NESTINGS.values(), ids=NESTINGS)
def test_checkpoints_as_pipelines_write_them(runs, root, nested):
    bring(root, originals(), checkpoints(runs, range(2), lambda i: nested(state(i))))
    found = Store(root).held(originals()).states_of([1])[0]
    assert all(torch.equal(found[name], value) for name, value in state(1).items())


def test_safetensors(runs, root):
    runs.mkdir()
    for i in range(2):
        save_file({f"module.{n}": v for n, v in state(i).items()}, runs / f"{i}.safetensors")
    bring(root, originals(), runs)
    found = Store(root).held(originals()).states_of([1])[0]
    assert all(torch.equal(found[name], value) for name, value in state(1).items())


def spoilt(name, value):
    return {**state(2), name: value}


class Stranger(nn.Module):
    def forward(self, x):
        return x


BAD = {
    "another architecture": (nn.Linear(3, 3).state_dict(), r"run_2/model\.pt is no state dict .*"),
    "another size": (spoilt("last.bias", torch.zeros(4)), r"last\.bias is \[4\], not \[3\]"),
    "objects": ({"weights": Evil()}, r"run_2/model\.pt is refused: it holds pickled objects"),
    "a whole model": (Stranger(), r"run_2/model\.pt is refused: it holds pickled objects"),
    "a tensor": (torch.zeros(3), r"run_2/model\.pt holds a Tensor"),
    "nan": (spoilt("last.bias", torch.full((3,), torch.nan)), r"run_2/.*last\.bias is not finite"),
    "diverged": (spoilt("last.bias", torch.tensor([1e9, 0, 0])), r"member 2 .* diverged"),
    "a copy": (state(1), r"run_1/model\.pt and \S*run_2/model\.pt are one and the same model"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_one_bad_file_and_nothing_is_imported(runs, root, content, message):
    checkpoints(runs, range(4))
    torch.save(content, runs / "run_2/model.pt")
    with pytest.raises(KlomError, match=message):
        bring(root, originals(), runs)
    assert files_in(root) == {}
    checkpoints(runs, range(4))
    assert bring(root, originals(), runs).new == [0, 1, 2, 3]


def test_a_truncated_file(runs, root):
    path = checkpoints(runs, range(3)) / "run_1/model.pt"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(KlomError, match=r"run_1/model\.pt cannot be read: is it whole\?"):
        bring(root, originals(), runs)
    assert files_in(root) == {}


def test_models_that_are_all_the_same_or_only_one(runs, root):
    with pytest.raises(KlomError, match="all of them are one and the same model"):
        bring(root, originals(), checkpoints(runs, range(3), lambda i: state(0)))
    one = checkpoints(runs / "one", range(1))
    with pytest.raises(KlomError, match="1 model is no ensemble"):
        bring(root, originals(), one, "run_{member}/model.pt")
    assert files_in(root) == {}


def test_the_same_files_again_change_nothing(runs, root):
    bring(root, originals(), checkpoints(runs, range(3)))
    before = files_in(root)
    done = bring(root, originals(), runs)
    assert (done.new, done.there) == ([], [0, 1, 2])
    assert files_in(root) == before


def test_more_members_are_added(runs, root, tmp_path):
    bring(root, originals(), checkpoints(runs, range(1, 3)))  # the lowest number is member 0
    before = files_in(root)
    later = checkpoints(tmp_path / "later", range(3, 6), name="{}.pt")
    assert bring(root, originals(), later).new == [2, 3, 4]
    assert before.items() <= files_in(root).items()
    margins_there = Store(root).held(originals()).margins(5, CPU)
    np.testing.assert_allclose(margins_there[4], alone(5), atol=1e-5)
    with pytest.raises(KlomError, match=r"members 5 to 7 of the originals .* would be missing"):
        bring(root, originals(), checkpoints(tmp_path / "gap", range(9, 11)))
    with pytest.raises(KlomError, match="has a number below 1"):
        bring(root, originals(), checkpoints(tmp_path / "below", range(3)))


def test_nothing_is_overwritten(runs, root, tmp_path):
    bring(root, originals(), checkpoints(runs, range(3)))
    before = files_in(root)
    other = checkpoints(tmp_path / "other", range(4), lambda i: state(i + (i == 1) * 50))
    with pytest.raises(KlomError, match=r"member 1 .* is there already, with other weights"):
        bring(root, originals(), other)
    assert files_in(root) == before


def test_what_was_trained_here_is_not_mixed_with_it(runs, root):
    mine = task()
    Store(root).complete([(trained_originals(mine), 2)], CPU)
    before = files_in(root)
    files = checkpoints(runs, range(4))
    with pytest.raises(KlomError, match="were trained here, and imported models are not mixed"):
        bring(root, trained_originals(mine), files)
    with pytest.raises(KlomError, match=r"trained here, .* \(train=None\).*`klom remove own"):
        bring(root, originals(brought(name="own")), files)
    assert files_in(root) == before


def test_none_are_trained_beside_them(runs, root):
    """Whatever trains the task by now, and however long: imported members stay what they are."""
    bring(root, originals(), checkpoints(runs, range(3)))
    for epochs in (2, 7):
        mine = originals(brought(train=Recipe(epochs=epochs, batch_size=32, lr=0.05)))
        held = Store(root).complete([(mine, 3)], CPU)[0]
        np.testing.assert_allclose(held.margins(3)[2], alone(2), atol=1e-5)
        with pytest.raises(KlomError, match=r"1 of 4 originals .*or ask for 3 \(--klom-models=3\)"):
            Store(root).complete([(mine, 4)], CPU)
    with pytest.raises(
        KlomError, match=r"`klom import FOLDER --task brought --as originals --store"
    ):
        Store(root).complete([(originals(), 4)], CPU)


@pytest.mark.parametrize("stale", ["error", "retrain"])
def test_another_model_is_noticed(runs, root, stale):
    bring(root, originals(), checkpoints(runs, range(2)))
    other = originals(brought(architecture=lambda: Net(act=nn.Tanh)))
    with pytest.raises(
        KlomError, match=r"act is ReLU\(\) there, Tanh\(\).*it can be imported anew"
    ):
        Store(root, stale=stale).complete([(other, 2)], CPU)
    assert Store(root).held(originals()).members == [0, 1]


def test_stores_are_joined(runs, root, tmp_path):
    bring(root, originals(), checkpoints(runs, range(4)))
    assert merge([root], tmp_path / "all") == {"full_models/BROUGHT": 4}
    held = Store(tmp_path / "all").held(originals())
    assert held.manifest.members[3].imported["number"] == 3
    assert not held.trained_here


def test_copies_of_originals_are_no_oracles(runs, root, tmp_path):
    bring(root, originals(), checkpoints(runs, range(4)))
    before = files_in(root)
    files = checkpoints(tmp_path / "oracles", range(4), lambda i: state(i + 90 * (i < 3)))
    with pytest.raises(KlomError, match="some of them are originals, margin for margin"):
        bring(root, oracles(), files)
    assert files_in(root) == before


def test_a_published_folder_is_left_alone(runs, root):
    checkpoints(root / "full_models/BROUGHT", range(3), name="sd_{}____epoch_7.pt")
    assert Store(root).held(originals()).members == [0, 1, 2]  # read in place, whatever the epoch
    with pytest.raises(KlomError, match="published originals of brought, which are read as they"):
        bring(root, originals(), checkpoints(runs, range(3)))


KILLED = """
import os, sys, torch
from pathlib import Path
from helpers.brought import bring, originals
from klom_bench.store.store import Store

here, ensemble = Path(sys.argv[1]), originals()
files = {2: here / "two", 3: here / "three"}
torch.set_num_threads(1)
for before, after in ((0, 2), (2, 3)):
    killed, steps = True, 0
    while killed:
        root = here / f"store_{before}_{steps}"
        if before:
            bring(root, ensemble, files[before])
        if not (child := os.fork()):
            left = [steps]
            def count(event, args):
                left[0] -= event in ("os.rename", "os.link")
                if left[0] < 0:
                    os._exit(9)
            sys.addaudithook(count)
            bring(root, ensemble, files[after])
            os._exit(0)
        killed = os.waitpid(child, 0)[1] != 0
        there = Store(root).held(ensemble).members
        assert there in ([*range(before)], [*range(after)]), there
        Store(root).held(ensemble).margins(len(there)) if there else None
        done = bring(root, ensemble, files[after])
        assert [*done.there] == there and [*done.new] == [*range(len(there), after)]
        steps += 1
    print(steps)
"""
"""Imports members, killed before each step that gives a file its name, and imports again."""


@pytest.mark.processes
def test_a_kill_leaves_a_store_that_goes_on(tmp_path):
    tests = Path(__file__).parents[1]
    checkpoints(tmp_path / "two", range(2))
    checkpoints(tmp_path / "three", range(3))
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(tmp_path)]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert min(map(int, done.stdout.split())) > 7


def test_data_that_they_were_not_trained_on_are_suspected(runs, root):
    turned = brought(load=lambda: load(labels=lambda y: (y + 1) % 3))
    (note,) = bring(root, originals(turned), checkpoints(runs, range(3))).notes
    assert "right on no more points than chance: are these the data" in note


def test_verify_reads_them(runs, root):
    bring(root, originals(), checkpoints(runs, range(3)))
    (found,) = verify(root, {"brought": brought()}, CPU)
    assert (found.holding.made, found.problems) == ("imported", [])
    (root / "full_models/BROUGHT/sd_1____epoch_0.pt").write_bytes(b"other")
    (found,) = verify(root, {"brought": brought()}, CPU)
    assert "sd_1____epoch_0.pt is not the file that was written" in found.problems[0]
