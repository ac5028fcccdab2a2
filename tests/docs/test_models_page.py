"""The page on how many models: its numbers are those that were measured, its commands run."""

import re

import pytest
from helpers.markdown import README, block, blocks, text_of

from klom_bench.cell.counts import AUTO, looks_in
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor
from klom_bench.plugin.pages import DOCS

MINE = block(README, "python", "# conftest.py")
PAGE, CALIBRATION, GATES = (DOCS / f"{name}.md" for name in ("models", "calibration", "gates"))


def rows(page, head):
    """Cells of the table whose head begins so, by the first cell of each row."""
    text = text_of(page)
    table = text[text.index(f"| {head} |") :].split("\n\n")[0]
    lines = [[c.strip() for c in line[1:-1].split("|")] for line in table.splitlines()]
    return {name: cells for name, *cells in (lines[0], *lines[2:])}


def numbers(cells):
    return [float(x) for cell in cells for x in re.findall(r"\d*\.?\d+", cell)]


def test_floors():
    found = rows(PAGE, "N")
    ns = [int(n) for n in found["N"]]
    floors = [floor(ESTIMATORS["default"], n, n).mean for n in ns]
    shown = next(cells for name, cells in found.items() if "a perfect method" in name)
    assert numbers(shown) == pytest.approx(floors, rel=0.02)


@pytest.mark.parametrize(
    ("name", "head", "row"),
    [
        ("KLOM, mean: doing nothing", "KLOM of", "`do_nothing`"),
        ("excess of `ga`", "excess of", "`ga`"),
        ("excess of `influence`", "excess of", "`influence`"),
        ("fails 0.5: doing nothing", "at 0.5", "`do_nothing`"),
        ("passes 0.5: `influence`", "at 0.5", "`influence`"),
        ("`scrub` is told", "tested", "`scrub`"),
        ("`influence` is told", "tested", "`influence`"),
    ],
)
def test_what_was_measured(name, head, row):
    shown = next(cells for label, cells in rows(PAGE, "N").items() if label.startswith(name))
    measured = rows(CALIBRATION, head)[f"digits, {row}"]
    if head in ("excess of", "at 0.5"):
        measured = [re.sub(r" \(.*", "", cell) for cell in measured[1:]]
        side = 0 if name.startswith("fails") else -1
        measured = [cell.split(" / ")[side] for cell in measured]
    shown = numbers(shown)
    assert len(shown) in (5, 6)
    digits = 0.06 if head == "KLOM of" else 0.006
    assert shown == pytest.approx(numbers(measured)[-len(shown) :], abs=digits)


def test_models_of_auto():
    measured = rows(CALIBRATION, "settled with")
    shown = rows(PAGE, "limit")
    assert shown["limit"] == measured["settled with"]
    for method in ("`ga`", "`scrub`", "`finetune`", "`influence`"):
        means = [re.search(r"\d+", cell)[0] for cell in measured[f"digits, {method}"]]
        assert shown[method] == means


def test_what_it_costs():
    for name, (trainings, *hours) in list(rows(PAGE, "N + N").items())[1:]:
        n, m = (int(x) for x in name.split(" + "))
        assert int(trainings) == n + m
        assert hours == [f"{-(-(n + m) // gpus) * 3} h" for gpus in (1, 8)]


def test_commands(project):
    """As they stand, but with one forget set and six models."""
    found = re.findall(r"^pytest (--klom-method=.*)$", text_of(PAGE), re.M)
    assert len(found) == 2
    for line, many in zip(found, ("6", "auto:6"), strict=True):
        args = line.replace(" --klom-models=auto", "").split()
        asked = ("--klom-forget-set=5", f"--klom-models={many}")
        result = project(*args, *asked)
        out = result.stdout.str()
        if "--klom-plan=measure" in args:
            assert "which N decides a gate, from 6 models a side" in out
        else:
            result.assert_outcomes(failed=1)
            assert "tests stopped: 1 with 5 models" in out


def test_as_few_as_needed(project):
    """What gates.md shows of a run, and which looks it says there are."""
    (line,) = re.findall(r"^pytest (.*--klom-models=(auto:\d+))$", text_of(GATES), re.M)
    result = project(*line[0].split(), conftest=MINE)
    result.assert_outcomes(failed=1)
    (shown,) = [text for text in blocks(GATES, "") if text.startswith("tests stopped")]
    assert shown in result.stdout.str()
    text = " ".join(text_of(GATES).split())
    for asked, words in ((line[1], "5, 7 and 8 models"), (AUTO, "20, 40, 60, 80 and 100;")):
        *first, last = looks_in(asked, "")
        assert f"{', '.join(map(str, first))} and {last}" in words
        assert words in text
