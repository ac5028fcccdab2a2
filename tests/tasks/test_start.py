"""Members that start from the weights of a file."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from klom_bench import KlomError, Recipe, per_model
from klom_bench.ensemble.ensemble import new_model
from klom_bench.store.manifest import Stale
from klom_bench.store.store import Store
from klom_bench.store.training import new_members
from tests.helpers.nets import CPU, oracles, originals, task


class Net(nn.Module):
    def __init__(self, classes=3, width=8):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(12, width), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(x))


@pytest.fixture
def file(tmp_path):
    """Weights of a model of other classes."""
    model = new_model(lambda: Net(classes=7), 5)
    model.body[1].running_mean += 1
    path = tmp_path / "base.pt"
    torch.save(model.state_dict(), path)
    return path


def made(file, fresh="head.*", **changes):
    return replace(task(Net), start=file, fresh=fresh, **changes)


def test_originals_and_oracles_begin_there_and_heads_are_each_ones_own(file):
    base, mine = torch.load(file, weights_only=True), made(file)
    states = [
        state for e in (originals(mine), oracles(mine)) for state in new_members(e, [0, 1]).states()
    ]
    for state in states:
        for name, value in state.items():
            if not name.startswith("head"):
                assert torch.equal(value, base[name]), name
    heads = [state["head.weight"] for state in states]
    assert len({h.sum().item() for h in heads}) == 4


@pytest.mark.parametrize("method", ["retrain", "eu_k"])
def test_what_is_trained_afresh_begins_there(file, measured, method):
    """With a training that only moves the head, bodies stay what they were."""

    @per_model
    def head_only(model, points, *, epochs=1):
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        model.eval()  # BatchNorm stays, too
        for x, y in points.batches(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()

    mine = made(file, train=head_only, folder="HEADS", name="heads")
    given = {"k": 1} if method == "eu_k" else {}
    measured(method, task=mine, forget_set="first_ten", members=2, **given)
    model = mine.ensemble(new_members(originals(mine), [0, 1]).states(), [0, 1])
    model.load_states(model.fresh_states())
    base = torch.load(file, weights_only=True)
    for state in model.states():
        assert torch.equal(state["body.0.weight"], base["body.0.weight"])
        assert not torch.equal(state["head.weight"], base["head.weight"][:3])


def test_other_weights_are_another_ensemble(file, tmp_path):
    store = Store(tmp_path / "store")
    store.complete([(originals(made(file)), 2)], CPU)
    found = json.loads((store.folder(originals(made(file))) / "manifest.json").read_bytes())
    assert found["identity"]["start"]["fresh"] == ["head.*"]
    Store(tmp_path / "store").complete([(originals(made(file)), 2)], CPU)
    state = torch.load(file, weights_only=True)
    torch.save({n: v * 2 for n, v in state.items()}, file)
    with pytest.raises(Stale, match="start is "):
        Store(tmp_path / "store").complete([(originals(made(file)), 2)], CPU)


def garbage(path):
    path.write_bytes(b"no zip")


def whole_model(path):
    torch.save(Net(), path)


def a_list(path):
    torch.save([1, 2], path)


def other_width(path):
    torch.save(Net(width=9).state_dict(), path)


@pytest.mark.parametrize(
    ("spoil", "fresh", "message"),
    [
        (lambda path: path.unlink(), "head.*", "cannot be read: .*base.pt .No such file"),
        (garbage, "head.*", "is no state dict that can be read without running code"),
        (whole_model, "head.*", "without running code .UnpicklingError"),
        (a_list, "head.*", "holds no state dict"),
        (
            other_width,
            "head.*",
            r"another architecture: body.0.weight is \(9, 12\) there, \(8, 12\)",
        ),
        (lambda path: None, (), r"head.weight is \(7, 8\) there, \(3, 8\) in the .*fresh="),
        (lambda path: None, "fc.*", r"fresh='fc\.\*' fits no parameter; there are .*, head.bias"),
    ],
)
def test_files_that_cannot_be_a_start(file, tmp_path, spoil, fresh, message):
    spoil(file)
    with pytest.raises(KlomError, match=message):
        Store(tmp_path / "store").complete([(originals(made(file, fresh)), 2)], CPU)
    assert not (tmp_path / "store").exists()


def test_a_task_that_starts_somewhere_can_be_changed(file):
    mine = made(file)
    again = replace(mine, train=Recipe(1, 32, 0.1))
    assert torch.equal(
        new_model(again.architecture).body[0].weight, new_model(mine.architecture).body[0].weight
    )
