"""What `klom_bench` itself gives: it is there, documented, and its examples are true."""

import doctest
import inspect
import subprocess
import sys

import pytest

import klom_bench


@pytest.mark.parametrize("name", klom_bench.__all__)
def test_a_public_name_is_documented_and_its_example_holds(name):
    thing = getattr(klom_bench, name)
    text = inspect.getdoc(thing)
    assert "Example:" in text
    takes = inspect.signature(thing).parameters if callable(thing) and name != "KlomError" else {}
    assert not takes or "Args:" in text
    examples = doctest.DocTestParser().get_doctest(text, {}, name, None, None)
    assert examples.examples
    told = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    assert runner.run(examples, out=told.append).failed == 0, "".join(told)


def test_all_is_what_can_be_had_and_nothing_is_loaded_for_it():
    code = (
        "import sys, klom_bench\n"
        "assert {*klom_bench.__all__} <= {*dir(klom_bench)}\n"
        "assert not {'torch', 'numpy'} & {*sys.modules}\n"
        "from klom_bench import *\n"
        "assert method.__module__ == 'klom_bench.methods.method'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_not_there_is_told():
    with pytest.raises(AttributeError, match="has no attribute 'klmo'"):
        _ = klom_bench.klmo
