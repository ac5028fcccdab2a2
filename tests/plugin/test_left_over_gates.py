"""Limits on what is left over, wherever limits are given."""

import xml.etree.ElementTree as ElementTree

import pytest
from helpers.made_up import CODE
from helpers.records import records

from klom_bench import run

ASKED = ("--klom-method=ga", "--klom-forget-set=3", "--klom-models=6", "--benchmark-json=out.json")
MARKED = """
import pytest
from klom_bench.suite import test_klom

pytestmark = pytest.mark.klom(forget_leftover=1)
"""


@pytest.mark.parametrize(
    ("args", "pyproject", "text"),
    [
        (("--klom-max=forget_leftover=1",), "", None),
        ((), "[tool.klom.gates.ga.forget_set_3]\nforget_leftover = 1\n", None),
        ((), "", MARKED),
    ],
    ids=["option", "pyproject", "marker"],
)
def test_it_is_gated_and_shown(project, pytester, args, pyproject, text):
    if text:
        pytester.makepyfile(test_mine=text)
    result = project(*ASKED, *args, "--junitxml=out.xml", pyproject=pyproject)
    result.assert_outcomes(failed=1)
    (record,) = records(pytester.path / "out.json")
    (gate,) = record["gates"]
    left = record["leftover"]["estimate"]
    assert (gate["metric"], gate["limit"], gate["verdict"]) == ("forget_leftover", 1, "fail")
    assert gate["value"] == left["value"] > 10
    tree = ElementTree.parse(pytester.path / "out.xml")
    junit = {p.get("name"): p.get("value") for p in tree.iter("property")}
    for name, end in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert float(junit[f"klom_forget_leftover{name}"]) == pytest.approx(left[end])
    result.stdout.fnmatch_lines(
        [
            f"forget_leftover {left['value']:.1f} %, limit 1: fail",
            "  ga on forget_set_3 of digits *",
            "forget set * left * of the *",
            f"* ga * {left['value']:.0f} % ±*%*",
            "nearer the retrained: *",
        ]
    )


def test_a_limit_above_100_is_a_usage_error(project):
    result = project(*ASKED, "--klom-max=forget_leftover=150")
    assert result.ret == 4
    assert "it is in per cent, and doing nothing has 100" in result.stderr.str()


def test_from_python(small_store):
    (found,) = run(
        "digits", "ga", forget_sets=3, models=6, store=small_store, limits={"forget_leftover": 1}
    )
    assert (found.gates[0].metric, found.verdict) == ("forget_leftover", "fail")


def test_margins_without_originals_are_an_error(project, pytester):
    text = """
def test_mine(klom):
    klom.check(klom.score(oracle=models(8, 1), unlearned=models(8, 2), **USUAL))
"""
    pytester.makepyfile(test_mine=CODE + text)
    result = project("--klom-max=forget_leftover=50")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*forget_leftover is a limit of test_mine, and needs the orig*"])
