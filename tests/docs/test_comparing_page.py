"""The page on comparing: its commands run one after the other, and say what it shows."""

import re

import pytest
from helpers.markdown import blocks, text_of

from klom_bench.cli import main
from klom_bench.plugin.pages import DOCS

PAGE = DOCS / "comparing.md"


@pytest.fixture
def said(project, pytester, capsys, monkeypatch):
    """What the commands of `klom` print; with six models, and on a set that other tests have."""
    monkeypatch.chdir(pytester.path)
    printed = []
    for line in re.findall(r"^(?:pytest|klom) .*$", "\n".join(blocks(PAGE, "")), re.M):
        program, *args = line.replace("scrub", "do_nothing").replace("set=2", "set=3").split()
        if program == "pytest":
            project(*args, "--klom-models=6").assert_outcomes(passed=2)
            capsys.readouterr()
        else:
            assert main(args) == 0
            printed.append(capsys.readouterr().out.replace("forget_set_3", "forget_set_2"))
    return printed


def test_its_commands_print_what_it_shows(said):
    differences, *rankings = said
    shown = blocks(PAGE, "")
    head, first, second = shown[1].splitlines()
    printed = differences.splitlines()
    assert head.split() == printed[3].split()
    rows = [line for line in printed if re.search("forget_(excess|mean)", line)]
    for mine, real in zip((first, second), rows, strict=False):
        numbers = r"[+±-]?\d+\.\d{4}"
        assert len(re.findall(numbers, mine)) == len(re.findall(numbers, real)) == 5
        assert re.sub(f"{numbers}.*", "", mine).split() == re.sub(f"{numbers}.*", "", real).split()
    assert "changed: digits-forget_set_2-ga: lr 0.137 -> 0.15" in printed
    assert "12 of 12 rows are paired: the same originals and oracles" in printed
    title, head, *_ = shown[3].splitlines()
    assert title in rankings[1]
    assert head.split() in [line.split() for line in rankings[1].splitlines()]
    assert "forget_set_2 of digits, forget_excess:" in rankings[0]
    assert "forget_set_2 of digits, forget_mean:" in rankings[1]


def test_its_table_of_ranks_is_in_itself_right():
    """Each method is in its own range, and is shown in the order of its number."""
    rows = [line.split() for line in blocks(PAGE, "")[3].splitlines()[2:]]
    assert [float(row[1]) for row in rows] == sorted(float(row[1]) for row in rows)
    for place, row in enumerate(rows, 1):
        first, _, last = row[-1].partition("-")
        assert int(first) <= place <= int(last or first)


def test_its_factors_are_those_of_its_example():
    seen = float(re.search(r"forget_excess .* ±\S+ +(\S+)  better", text_of(PAGE))[1])
    assert f"shows from {seen:.4f} on" in text_of(PAGE)
