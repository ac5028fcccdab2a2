"""What docstrings say of where a method is from and what it costs, held against the method."""

import math
import re

import pytest
from helpers.any_method import any_method

from klom_bench import method
from klom_bench.methods import BUILT_IN
from klom_bench.methods.description import described
from klom_bench.tasks import DIGITS

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_says_where_it_is_from(name):
    said = described(BUILT_IN[name])
    assert said.rule
    assert said.code
    assert said.paper
    if BUILT_IN[name].hyperparameters:
        assert re.search(r"arXiv \d{4}\.\d{5}", said.paper)
        assert said.defaults
        assert said.departures
        assert re.search(r"equal to |read, not run", said.code)


@pytest.mark.parametrize("name", BUILT_IN)
def test_costs_are_those_counted(name):
    """On 7 and 53 points; whole batches only, and rounded shares, make some a little cheaper."""
    settings = {"ratio": 2.0, "copies": 2, "examples": 20, "iterations": 3}
    function = BUILT_IN[name]
    settings = {n: v for n, v in settings.items() if n in function.hyperparameters}
    _, forget, retain = any_method(name, **settings)
    values = {"lr": 0.01, "epochs": 3, "batch_size": 16, "noise_size": 16, "k": 2, **settings}
    known = {**function.hyperparameters, **values, "recipe_epochs": DIGITS.recipe.epochs}
    known |= {"F": len(forget), "R": len(retain), "min": min, "ceil": math.ceil}
    known["classes"] = 10
    expected = eval(described(function).costs, {"__builtins__": {}}, known)
    assert forget.seen + retain.seen == pytest.approx(expected, rel=0.1)


def test_what_is_read():
    @method()
    def mine(model, forget, retain, *, lr=0.1):
        """MINE: min L_R.

        More of the rule: with a colon.
        Paper: Somebody 2031 (arXiv 3101.00001),
        section 2.
        Code: owner/name.py, `f`: equal to 1e-16.
        Sees: retain.
        """
        yield

    said = described(mine)
    assert (said.rule, said.sees, said.costs) == ("MINE: min L_R.", "retain", "")
    assert said.paper == "Somebody 2031 (arXiv 3101.00001), section 2"
    assert (said.year, said.repository) == ("2031", "owner/name.py")
