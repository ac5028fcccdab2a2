"""What changes the signature of a model, and what does not."""

import json
import os
import subprocess
import sys

import pytest
import torch
from helpers.nets import CPU, Net, originals, task
from torch import nn

from klom_bench.store.manifest import Stale
from klom_bench.store.store import Store
from klom_bench.tasks.signature import difference


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


DEEP = """
import json, torch
from torch import nn
from klom_bench.tasks import DIGITS
from klom_bench.tasks.signature import signature_of
def deep():
    layers = [nn.Linear(64, 32)]
    for _ in range(30):
        layers += [nn.Linear(32, 32), nn.BatchNorm1d(32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 10))
def said(threads):
    torch.set_num_threads(threads)
    return json.dumps(signature_of(deep, DIGITS.data.x_train[:4]).as_json)
"""


@pytest.mark.processes
def test_threads_and_kernels_change_no_signature():
    """BatchNorm over four points, thirty times, makes much of rounding.

    This process has the kernels that its CPU is best with, others what they are told to.
    """
    names, before = {}, torch.get_num_threads()
    exec(DEEP, names)
    here = json.loads(names["said"](2))
    torch.set_num_threads(before)
    assert not here["single_precision"]
    for threads, kernels in ((1, "default"), (2, "avx2")):
        if kernels.upper() == torch.backends.cpu.get_cpu_capability():
            continue
        done = subprocess.run(
            [sys.executable, "-c", f"{DEEP}\nprint(said({threads}))"],
            env={**os.environ, "ATEN_CPU_CAPABILITY": kernels},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert difference(json.loads(done.stdout), here) is None


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
