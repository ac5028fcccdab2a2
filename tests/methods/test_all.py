"""Every method of the package is built in, and has its rule written by hand."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

from klom_bench import methods
from klom_bench.methods.method import Method


def test_every_method_is_built_in():
    modules = [
        importlib.import_module(f"klom_bench.methods.{module.name}")
        for module in pkgutil.iter_modules(methods.__path__)
    ]
    found = {thing.name for m in modules for thing in vars(m).values() if isinstance(thing, Method)}
    assert found == {*methods.BUILT_IN}


@pytest.mark.parametrize("name", methods.BUILT_IN)
def test_its_rule_is_written_by_hand(name):
    """As far as a test can tell: a test file of this folder calls it."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    assert re.search(rf"""[(\[]\s*"{name}"|\b{name}\(""", tests)
