"""What of a training function counts as its code."""

import importlib.util
import itertools
import linecache
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from klom_bench.tasks.code import code_sha256, value_text

SOURCE = '''
import torch
LR = 0.1
UNUSED = 1
MILESTONES = [1, 2]
PAIR = (1, torch.add)

class Kept:
    """A class."""
    decay = 0.5

    def value(self):
        return LR * self.decay

def helper(x, *, k=1.0):
    # a comment
    return x + LR + k + MILESTONES[0] + PAIR[0]

def unrelated(x):
    return x

def train(model, points, *, epochs=3, lr=LR):
    """What it does."""
    for _ in range(epochs):  # every epoch
        helper(lr)
        Kept().value()
        torch.zeros(1)
        yield

def maker(factor):
    def made(model, points, *, epochs=1):
        yield factor * helper(1)
    return made

made = maker(2)
other = maker(3)
same = maker(2)
'''
numbers = itertools.count()


@pytest.fixture
def hash_of(tmp_path, monkeypatch):
    def found(*changes, name="train"):
        text = SOURCE
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"training_{next(numbers)}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("training", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "training", module)  # where classes look for their source
        spec.loader.exec_module(module)
        return code_sha256(getattr(module, name), trains=True)

    return found


@pytest.mark.parametrize(
    "change",
    [
        ("# a comment", "# another, longer comment"),
        ('"""What it does."""', '"""Something else."""'),
        ('"""What it does."""\n', "\n"),
        ('"""A class."""', '"""A better class."""'),
        ("UNUSED = 1", "UNUSED = 2"),
        ("def unrelated(x):\n    return x", "def unrelated(x):\n    return -x"),
        ("epochs=3, lr=LR", "epochs=30, lr=0.7"),
        ("helper(lr)", "helper( lr )"),
    ],
)
def test_what_does_not_count(hash_of, change):
    assert hash_of(change) == hash_of()


@pytest.mark.parametrize(
    "change",
    [
        ("return x + LR", "return x - LR"),
        ("LR = 0.1", "LR = 0.2"),
        ("MILESTONES = [1, 2]", "MILESTONES = [1, 3]"),
        ("PAIR = (1, torch.add)", "PAIR = (1, torch.sub)"),
        ("k=1.0", "k=2.0"),
        ("helper(lr)", "helper(-lr)"),
        ("decay = 0.5", "decay = 0.6"),
        ("LR * self.decay", "LR + self.decay"),
        ("torch.zeros(1)", "torch.zeros(2)"),
    ],
)
def test_what_counts(hash_of, change):
    assert hash_of(change) != hash_of()


def test_values_that_a_function_was_made_with_count(hash_of):
    assert hash_of(name="made") == hash_of(name="same")
    assert hash_of(name="made") != hash_of(name="other")
    assert hash_of(("return x + LR", "return x"), name="made") != hash_of(name="made")


def test_without_source_it_is_the_bytecode():
    a, b, c = (eval(f"lambda z, y: {text}") for text in ("z + y", "z + y", "z - y"))
    assert code_sha256(a) == code_sha256(b) != code_sha256(c)


K = 2.0


def loss_of(**changes):
    return [
        lambda z, y: (z - y).abs() * 2,
        lambda z, y: (z - y).abs() * 3,
        lambda z, y: (z - y).abs() * K,
    ]


def made_with(delta):
    return lambda z, y: z * delta


def on_tensor(weights):
    def loss(z, y):
        return z * weights

    return loss


class Trainer:
    def __init__(self, k):
        self.k = k

    def __call__(self, model, points):
        yield self.k

    def method(self, model, points):
        yield self.k


def test_what_is_no_plain_function_counts_too():
    """Lambdas in the midst of a line, closures, partials, objects, bound methods."""
    different = [
        *loss_of(),
        made_with(1.0),
        made_with(2.0),
        on_tensor(torch.tensor([1.00001, 2.0])),
        on_tensor(torch.tensor([1.00002, 2.0])),
        partial(torch.nn.functional.huber_loss, delta=1.0),
        partial(torch.nn.functional.huber_loss, delta=2.0),
        partial(torch.nn.functional.l1_loss),
        torch.nn.HuberLoss(delta=1.0),
        torch.nn.HuberLoss(delta=2.0),
        Trainer(1),
        Trainer(2),
        Trainer(1).method,
        Trainer(2).method,
    ]
    assert len({code_sha256(one) for one in different}) == len(different)
    assert code_sha256(Trainer(1)) == code_sha256(Trainer(1))
    assert code_sha256(made_with(1.0)) == code_sha256(made_with(1.0))


@pytest.mark.processes
def test_values_read_alike_in_every_process(monkeypatch):
    """Here and in one that hashes otherwise, so that sets have another order."""
    value = "{'a': (t.made_with, frozenset('abcdefghijklmnop')), 'b': t.Trainer(1)}"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_code as t;"
        f"from klom_bench.tasks.code import value_text; print(value_text({value}))"
    )
    folder = str(Path(__file__).parent)
    said = subprocess.run(
        [sys.executable, "-c", code, folder],
        env={
            **os.environ,
            "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1",
        },
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    monkeypatch.syspath_prepend(folder)
    here = value_text(eval(value, {"t": importlib.import_module("test_code")}))
    assert said == f"{here}\n"
    assert "0x" not in said


def test_other_files_of_the_users_count_and_installed_ones_do_not(site):
    (site / "theirs.py").write_text(
        "import torch, helpers_of_it\n"
        "from helpers_of_it import evaluate\n"
        "def train(model, points):\n"
        "    yield evaluate(torch.nn.functional.relu(points))\n"
    )
    found = []
    for text in ("return x", "return x + 1", "return x  # as it is"):
        (site / "helpers_of_it.py").write_text(f"def evaluate(x):\n    {text}\n")
        for name in ("theirs", "helpers_of_it"):
            sys.modules.pop(name, None)
        linecache.clearcache()
        found.append(code_sha256(importlib.import_module("theirs").train))
    assert found[0] != found[1]
    assert found[0] == found[2]
