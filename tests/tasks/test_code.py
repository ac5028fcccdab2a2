"""What of a training function counts as its code."""

import importlib.util
import itertools
import sys

import pytest

from klom_bench.tasks.code import code_sha256

SOURCE = '''
import torch
LR = 0.1
UNUSED = 1

class Kept:
    """A class."""
    decay = 0.5

    def value(self):
        return LR * self.decay

def helper(x):
    # a comment
    return x + LR

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
        return code_sha256(getattr(module, name))

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
