"""Ensembles that are no longer what is asked for: every way in which data or a model may change."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from klom_bench import cli
from klom_bench.ensemble.training import Recipe
from klom_bench.errors import KlomError, KlomWarning
from klom_bench.store.manifest import Stale
from klom_bench.store.stale import lock
from klom_bench.store.store import Store
from klom_bench.tasks.data import Data
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.signature import difference
from klom_bench.tasks.task import Task

CPU = torch.device("cpu")


def load(labels=lambda y: y, word="", x_scale=1.0, prepare=None, far=0.0):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(240, 12, generator=g), torch.arange(240) % 3
    x[range(240), y] += 2
    x[7] += far
    x, y = x * x_scale, labels(y.clone())
    more = {} if prepare is None else {"prepare": prepare}
    return Data(x[:180], y[:180], x[180:], y[180:], word, **more)


class Net(nn.Module):
    """As users write them: dropout in two ways, layers that only `forward` knows."""

    def __init__(
        self,
        p=0.2,
        act=nn.ReLU,
        functional=0.0,
        spread=1.0,
        sign=1.0,
        momentum=0.1,
        detach=False,
        frozen=False,
    ):
        super().__init__()
        self.norm = nn.BatchNorm1d(16, momentum=momentum)
        self.first, self.last = nn.Linear(12, 16), nn.Linear(16, 3)
        self.act, self.drop = act(), nn.Dropout(p)
        self.functional, self.sign, self.detach = functional, sign, detach
        self.first.requires_grad_(not frozen)
        with torch.no_grad():
            self.first.weight.mul_(spread)

    def forward(self, x):
        h = self.first(x).detach() if self.detach else self.first(x)
        h = self.drop(self.act(h) + self.norm(h))
        h = nn.functional.dropout(h, self.functional, self.training)
        return self.sign * self.last(h)


def task(architecture=Net, recipe=None, **changes):
    recipe = recipe or Recipe(epochs=3, batch_size=32, lr=0.05)
    sets = {"first_ten": lambda: np.arange(10)}
    return Task("own", "OWN", architecture, recipe, lambda: load(**changes), 180, sets)


def originals(of):
    return EnsembleId(of, "original", 0)


def oracles(of):
    return EnsembleId(of, "oracle", 0, of.forget_set("first_ten"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    mine = task()
    Store(root).complete([(originals(mine), 3), (oracles(mine), 3)], CPU)
    return root


@pytest.fixture
def root(trained, tmp_path):
    target = tmp_path / "store"
    shutil.copytree(trained, target)
    return target


CHANGES = {
    "labels": (task(labels=lambda y: 2 - y), r"the data changed since \(y_train, y_val\)"),
    "a val label": (
        task(labels=lambda y: torch.cat([y[:-1], 2 - y[-1:]])),
        r"the data changed since \(y_val\)",
    ),
    "one input": (task(far=1.0), r"the data changed since \(x_train\)"),
    "the scale": (task(x_scale=1.001), r"the data changed since \(x_train, x_val\)"),
    "prepare": (task(prepare=lambda x: x / 2), "give other logits in train mode"),
    "prepare of one feature": (
        task(prepare=lambda x: torch.cat([x[..., :11], -x[..., 11:]], -1)),
        "give other logits in train mode",
    ),
    "activation": (
        task(lambda: Net(act=nn.GELU)),
        r"act is ReLU\(\) there, GELU\(approximate='none'\) now",
    ),
    "dropout": (
        task(lambda: Net(p=0.9)),
        r"drop is Dropout\(p=0.2, inplace=False\) there, Dropout\(p=0.9",
    ),
    "dropout that only forward knows": (
        task(lambda: Net(functional=0.5)),
        "give other logits in train mode",
    ),
    "what forward does": (task(lambda: Net(sign=-1.0)), "give other logits in train mode"),
    "initial weights": (task(lambda: Net(spread=3.0)), "initial weights are drawn otherwise"),
    "what is trained": (task(lambda: Net(detach=True)), "have other gradients"),
    "what is frozen": (task(lambda: Net(frozen=True)), "have other gradients"),
    "epochs": (task(recipe=Recipe(epochs=4, batch_size=32, lr=0.05)), "recipe is"),
    "what only training sees": (
        task(lambda: Net(momentum=0.5)),
        r"BatchNorm1d\(16, eps=1e-05, momentum=0.1,.* there, .*momentum=0.5",
    ),
    "recipe": (task(recipe=Recipe(epochs=3, batch_size=32, lr=0.1)), "recipe is"),
}


@pytest.mark.parametrize("role", [originals, oracles])
@pytest.mark.parametrize("name", CHANGES)
def test_what_changed_is_named_and_nothing_is_used(root, name, role):
    changed, text = CHANGES[name]
    before = (root / role(changed).folder / "manifest.json").read_bytes()
    with pytest.raises(Stale, match=text) as error:
        Store(root).complete([(role(changed), 3)], CPU)
    assert "--klom-stale=retrain" in str(error.value)
    assert "`klom remove own" in str(error.value)
    with pytest.raises(Stale, match=text):  # before more are trained beside the old ones
        Store(root).complete([(role(changed), 5)], CPU)
    assert (root / role(changed).folder / "manifest.json").read_bytes() == before


def test_what_did_not_change_is_used(root):
    """Built anew, as in another process: another object, the same words and numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for stale in ("error", "retrain"):
            store = Store(root, "error", stale)
            store.complete([(originals(task()), 3), (oracles(task()), 3)], CPU)
    assert not (root / "stale").exists()


def test_another_torch_may_describe_layers_otherwise(root):
    """Only what they compute counts then."""
    path = root / originals(task()).folder / "manifest.json"
    content = json.loads(path.read_bytes())
    content["identity"]["model"]["layers"]["norm"] = "BatchNorm1d(16, newly_shown=True)"
    path.write_text(json.dumps(content))
    with pytest.raises(Stale, match="newly_shown"):
        Store(root).complete([(originals(task()), 3)], CPU)
    content["identity"]["model"]["torch"] = "1.0"
    path.write_text(json.dumps(content))
    Store(root).complete([(originals(task()), 3)], CPU)
    with pytest.raises(Stale, match="GELU"):
        Store(root).complete([(originals(task(lambda: Net(act=nn.GELU))), 3)], CPU)


class ZeroHead(nn.Module):
    def __init__(self, p):
        super().__init__()
        self.layer, self.head, self.p = nn.Linear(12, 16), nn.Linear(16, 3), p
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.layer(x) ** (1 + self.p))


def test_a_head_that_starts_at_zero_hides_nothing(tmp_path):
    a, b = task(lambda: ZeroHead(0)), task(lambda: ZeroHead(1))
    assert difference(a.signature.as_json, a.signature.as_json) is None
    assert "give other logits" in difference(a.signature.as_json, b.signature.as_json)


def test_names_of_classes_and_of_layers_are_free(root):
    """A class that was renamed computes what it did."""

    class Renamed(Net):
        def __init__(self):
            super().__init__()
            self.dropout = self.drop
            del self.drop

        def forward(self, x):
            self.drop = self.dropout
            z = super().forward(x)
            del self.drop
            return z

    Store(root, "error").complete([(originals(task(Renamed)), 3)], CPU)


def only_in_eval_mode(**changes):
    class Odd(Net):
        def forward(self, x):
            z = super().forward(x)
            return z if self.training else changes["of"](z)

    return task(Odd)


def test_a_forward_pass_that_changed_in_eval_mode_alone_is_noticed(root):
    """Nothing but the stored margins of a member tells."""
    for change in (lambda z: 1.1 * z, lambda z: z.flip(-1), lambda z: z.round()):
        with pytest.raises(Stale, match=r"margins of member 0, computed anew .* are off by"):
            Store(root).complete([(originals(only_in_eval_mode(of=change)), 3)], CPU)
    Store(root).complete([(originals(only_in_eval_mode(of=lambda z: z)), 3)], CPU)


def test_retrain_moves_the_old_ones_aside_and_trains_anew(root):
    changed = CHANGES["labels"][0]
    old = sorted(p.name for p in (root / originals(changed).folder).glob("sd_*"))
    store = Store(root, stale="retrain")
    with pytest.warns(KlomWarning, match="data changed since .* It was moved to"):
        store.complete([(originals(changed), 2)], CPU)
    aside = root / "stale" / "1" / originals(changed).folder
    assert sorted(p.name for p in aside.glob("sd_*")) == old
    assert sorted(store.manifest(originals(changed)).members) == [0, 1]
    assert store.held(originals(changed)).margins(2, CPU).shape == (2, 240)
    with pytest.warns(KlomWarning, match="It was moved to"):  # and back again
        Store(root, stale="retrain").complete([(originals(task()), 2)], CPU)
    assert (root / "stale" / "2" / originals(changed).folder).is_dir()


def test_nothing_is_moved_while_another_run_trains_into_it(root):
    changed = CHANGES["labels"][0]
    with (
        lock(root / originals(changed).folder, "pack_0"),
        pytest.raises(KlomError, match="another run is training into"),
    ):
        Store(root, stale="retrain").complete([(originals(changed), 2)], CPU)
    assert (root / originals(changed).folder / "manifest.json").exists()


def dated(root, ensemble, word):
    """As earlier versions wrote it: a word of the user's for the data, nothing of the model."""
    path = root / ensemble.folder / "manifest.json"
    content = json.loads(path.read_bytes())
    content["identity"]["data_sha256"] = word
    del content["identity"]["model"]
    path.write_text(json.dumps(content))
    return path


def test_a_manifest_with_a_users_word_is_compared_and_then_has_the_hash(root):
    mine = task(word="v1")
    path = dated(root, originals(mine), "v1")
    store = Store(root)
    with pytest.warns(KlomWarning, match="was made by an earlier version: its margins agree"):
        store.complete([(originals(mine), 3)], CPU)
    identity = json.loads(path.read_bytes())["identity"]
    assert identity["data_sha256"] == mine.data.hashes()
    assert identity["model"]["layers"]["act"] == "ReLU()"
    with pytest.raises(Stale, match="the data changed"):
        Store(root).complete([(originals(task(word="v1", far=1.0)), 3)], CPU)


@pytest.mark.parametrize(
    "changed",
    [
        task(labels=lambda y: 2 - y, word="v1"),
        task(labels=lambda y: torch.cat([y[:77], 2 - y[77:78], y[78:]]), word="v1"),
        task(x_scale=2.0, word="v1"),
        task(lambda: Net(act=nn.GELU), word="v1"),
        task(lambda: Net(sign=-1), word="v1"),
    ],
)
def test_a_manifest_with_a_users_word_that_is_wrong_is_noticed(root, changed):
    path = dated(root, originals(changed), "v1")
    before = path.read_bytes()
    with pytest.raises(Stale, match="the data or what the model computes changed since"):
        Store(root).complete([(originals(changed), 3)], CPU)
    assert path.read_bytes() == before


def test_another_word_is_another_ensemble(root):
    dated(root, originals(task()), "v1")
    with pytest.raises(Stale, match="data_sha256 is 'v1' there, 'v2' is asked for"):
        Store(root).complete([(originals(task(word="v2")), 3)], CPU)


def test_a_store_that_cannot_be_written_is_read(root, monkeypatch):
    mine = task(word="v1")
    path = dated(root, originals(mine), "v1")
    before = path.read_bytes()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    Store(root, "error").complete([(originals(mine), 3)], CPU)
    assert path.read_bytes() == before


def test_verify_and_list_tell(root, capsys, monkeypatch):
    changed = CHANGES["activation"][0]
    with pytest.warns(KlomWarning):
        Store(root, stale="retrain").complete([(oracles(changed), 2)], CPU)
    monkeypatch.setitem(__import__("klom_bench.tasks").tasks.BUILT_IN, "own", changed)
    assert cli.main(["verify", "--store", str(root)]) == 1
    told = capsys.readouterr().out
    assert "PROBLEM own: originals" in told
    assert "GELU" in told
    assert "ok      own: oracles of first_ten" in told
    assert "2 ensembles, 1 with problems" in told
    assert cli.main(["list", "--store", str(root)]) == 0
    assert "moved aside, stale" in capsys.readouterr().out


# klom remove


def folders(root):
    return sorted(p.parent.relative_to(root).as_posix() for p in root.rglob("manifest.json"))


def run_remove(root, *args):
    return cli.main(["remove", *args, "--store", str(root)])


def test_remove_takes_what_was_trained_here(root, capsys):
    with pytest.warns(KlomWarning):
        Store(root, stale="retrain").complete([(originals(CHANGES["labels"][0]), 2)], CPU)
    Store(root).complete([(EnsembleId(task(), "original", 7), 2)], CPU)
    assert run_remove(root, "own", "--forget-set", "first_ten", "--yes") == 0
    assert folders(root) == ["full_models/OWN", "seed_7/full_models/OWN", "stale/1/full_models/OWN"]
    assert run_remove(root, "own", "--seed", "7", "--yes") == 0
    assert folders(root) == ["full_models/OWN", "stale/1/full_models/OWN"]
    assert run_remove(root, "own", "--yes") == 0
    assert folders(root) == []
    out = capsys.readouterr().out
    assert "oracles/OWN/first_ten  3 members" in out
    assert run_remove(root, "own", "--yes") == 1


def test_remove_asks_and_leaves_everything_else(root, capsys):
    published = root / "full_models" / "DIGITS"
    published.mkdir()
    (published / "sd_0____epoch_19.pt").write_bytes(b"published")
    assert run_remove(root, "own") == 1
    assert "nothing was removed: say --yes" in capsys.readouterr().err
    assert len(folders(root)) == 2
    assert run_remove(root, "digits", "--yes") == 1
    assert "nothing of digits that was trained here" in capsys.readouterr().err
    assert run_remove(root, "own", "--forget-set", "first_te", "--yes") == 1
    assert "did you mean first_ten" in capsys.readouterr().err
    assert run_remove(root, "own", "--yes") == 0
    assert [p.name for p in root.rglob("*.pt")] == ["sd_0____epoch_19.pt"]


def test_remove_takes_what_cannot_be_read(root):
    (root / originals(task()).folder / "manifest.json").write_text("{")
    assert run_remove(root, "own", "--yes") == 0
    assert folders(root) == []


def test_remove_waits_for_no_run(root, capsys):
    with lock(root / originals(task()).folder, "pack_0"):
        assert run_remove(root, "own", "--yes") == 1
    assert "another run is training into" in capsys.readouterr().err
    assert len(folders(root)) == 2


# Nothing changed, and yet something looks so.


DEEP = """
import sys, torch
from pathlib import Path
from torch import nn
from klom_bench.tasks import DIGITS
from klom_bench.tasks.signature import difference, signature_of
import json
def deep():
    layers = [nn.Linear(64, 32)]
    for _ in range(30):
        layers += [nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 10))
torch.set_num_threads(int(sys.argv[1]))
print(json.dumps(signature_of(deep, DIGITS.data.x_train[:4]).as_json))
"""


def test_threads_and_kernels_change_no_signature():
    """BatchNorm over four points, thirty times, makes much of rounding."""
    found = []
    for threads, kernels in (("1", "default"), ("2", "avx2"), ("2", "")):
        env = {**os.environ, "ATEN_CPU_CAPABILITY": kernels} if kernels else os.environ
        done = subprocess.run(
            [sys.executable, "-c", DEEP, threads], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert difference(found[0], found[1]) is None
    assert difference(found[0], found[2]) is None
    assert not found[0]["single_precision"]


def net(*more):
    return nn.Sequential(nn.Linear(12, 16), *more, nn.Linear(16, 3))


class NoiseInEval(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = net(nn.ReLU())

    def forward(self, x):
        return nn.functional.dropout(self.layers(x), 0.5, training=True)


class OneNeverSaid(nn.Module):
    """A class that is never said, and a scale that no noise may make negative."""

    def __init__(self):
        super().__init__()
        self.layers, self.scale = net(nn.ReLU()), nn.Parameter(torch.full((3,), 0.05))

    def forward(self, x):
        z = self.layers(x) * self.scale.abs().sqrt()
        return torch.cat([z, torch.full_like(z[:, :1], -1e30)], -1)


class InSinglePrecision(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = net(nn.ReLU())

    def forward(self, x):
        return self.layers(x @ torch.eye(12))


@pytest.mark.filterwarnings("ignore:the scores of task own will not repeat")
@pytest.mark.parametrize(
    "architecture",
    [
        lambda: net(nn.BatchNorm1d(16, track_running_stats=False), nn.ReLU()),
        NoiseInEval,
        OneNeverSaid,
        InSinglePrecision,
    ],
)
def test_odd_models_are_not_stale(tmp_path, architecture):
    for _ in range(2):
        Store(tmp_path, stale="retrain").complete([(originals(task(architecture)), 3)], CPU)
    assert not (tmp_path / "stale").exists()
    assert "Infinity" not in (tmp_path / "full_models/OWN/manifest.json").read_text()
    if architecture is not NoiseInEval:
        assert task(architecture).signature.unseeded == ()


def test_margins_alone_are_used_as_before(root):
    for path in root.rglob("sd_*.pt"):
        path.unlink()
    Store(root, "error").complete([(oracles(task()), 3)], CPU)


def test_what_is_stale_is_told_before_anything_is_downloaded(root):
    changed = CHANGES["activation"][0]
    for missing in ("download", "error"):
        with pytest.raises(Stale, match="--klom-stale=retrain moves it aside"):
            Store(root, missing).complete([(originals(changed), 3)], CPU)


def test_the_command_that_is_named_removes_what_is_stale_and_nothing_else(root):
    Store(root).complete([(EnsembleId(task(), "original", 7), 2)], CPU)
    changed = CHANGES["activation"][0]
    before = folders(root)
    for ensemble in (EnsembleId(changed, "original", 7), oracles(changed)):
        with pytest.raises(Stale) as error:
            Store(root).complete([(ensemble, 2)], CPU)
        command = re.search("`klom (remove .*?)`", str(error.value))[1]
        assert cli.main([*shlex.split(command), "--yes"]) == 0
        before.remove(ensemble.folder.as_posix())
        assert folders(root) == before


def test_remove_deletes_nothing_outside_the_store(root, tmp_path, capsys):
    folder = root / originals(task()).folder
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert run_remove(root, "own", "--originals", "--yes") == 1
    assert "nothing outside the store is removed" in capsys.readouterr().err
    assert (tmp_path / "elsewhere" / "manifest.json").exists()


def test_a_plan_writes_nothing(root):
    mine = task(word="v1")
    path = dated(root, originals(mine), "v1")
    before = path.read_bytes()
    assert Store(root).stale_if(originals(mine), CPU) is None
    assert path.read_bytes() == before
