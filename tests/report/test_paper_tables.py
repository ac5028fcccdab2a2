"""Tables for papers: what is the best, what stands in one table, and what is said beside it."""

import copy
import json

import pytest
from helpers.compared import result, saved

from klom_bench.cli import main

SHIFTS = {"good": 0.65, "nearly": 0.85, "bad": 0.1}
"""Excess about -.01, .03 and .32, each by .02 or so; the first two move the same models, so that
they can be told apart all the same."""


@pytest.fixture(scope="module")
def records():
    return {name: result(lr, n=60, name=name)[2] for name, lr in SHIFTS.items()}


@pytest.fixture
def report(tmp_path, capsys):
    """What `klom report` prints of records."""

    def run(*given, args=()):
        path = saved(tmp_path / "out.json", *given)
        code = main(["report", str(path), *args])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return out

    return run


def changed(record, **other):
    return copy.deepcopy(record) | other


def rows(table):
    """By first cell, without the heads."""
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    return {line.split(" | ")[0].strip("| `"): line for line in lines}


def unpaired(record):
    return changed(record, pairing=None)


def test_the_best_is_in_bold_with_all_that_may_be_as_good(records, report):
    of = records.values()
    bold = {name for name, line in rows(report(*of)).items() if "**" in line}
    assert bold == {"good"}
    bold = {name for name, line in rows(report(*map(unpaired, of))).items() if "**" in line}
    assert bold == {"good", "nearly"}
    assert "**" not in report(*of, args=["--metric", "p95"])  # of which no error is known


@pytest.mark.parametrize(
    "no_candidate",
    [{"sees_oracles": True}, {"method": "retrain"}, {"method": "do_nothing"}],
    ids=["sees oracles", "retrain", "do_nothing"],
)
def test_what_is_no_candidate_is_not_the_best(records, report, no_candidate):
    stands_out = changed(records["good"], **no_candidate)
    table = report(stands_out, records["nearly"], records["bad"])
    assert {name for name, line in rows(table).items() if "**" in line} == {"nearly"}
    assert "**" not in report(stands_out, records["bad"])  # nothing to choose from


def test_what_is_worse_than_doing_nothing_is_not_the_best_however_large_its_error(records, report):
    good, bad, wild = (unpaired(records[name]) for name in ("good", "nearly", "bad"))
    wild["excess"]["forget"] |= {"value": 5.0, "se": 9.0}
    table = report(good, bad, wild)
    assert "5.00 ±18.01" in table
    assert {name for name, line in rows(table).items() if "**" in line} == {"good", "nearly"}


def test_numbers_and_intervals_are_those_of_the_record(records, report):
    record, places = records["bad"], ("forget", "retain", "val")
    for metric, key in (("mean", "mean"), ("reverse_mean", "reverse_mean")):
        (*_, cells, _) = rows(report(record, args=["--metric", metric]))["bad"].split(" | ")
        for cell, split in zip(cells.split(" / "), places, strict=True):
            of = record["errors"][split][key]
            assert cell == f"{of['value']:.2f} ±{of['high'] - of['value']:.2f}"
    table = rows(report(record))
    excess = [record["excess"][split] for split in places]
    assert [of.split(" ±")[0] for of in table["bad"].split(" | ")[1].split(" / ")] == [
        f"{round(of['value'], 2) + 0.0:.2f}" for of in excess
    ]
    assert table["floor"].split(" | ")[1] == "0.00 / 0.00 / 0.00"
    nothing = record["excess_do_nothing"]["forget"]["value"]
    assert table["do nothing"].split(" | ")[1].startswith(f"{nothing:.2f} ±")
    (*_, reverse, _) = rows(report(record, args=["--metric", "reverse_p99"]))["floor"].split(" | ")
    floor = [record["floor_reverse"][split]["p99"] for split in places]
    assert [float(of) for of in reverse.split(" / ")] == [round(of, 1) for of in floor]


@pytest.mark.parametrize(
    "other",
    [{"task": "another"}, {"seed": 7}, {"members": {"oracle": 59, "unlearned": 60}}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_not_comparable_has_a_table_of_its_own(records, report, other):
    apart = changed(unpaired(records["bad"]), **other)
    first, second = report(records["good"], apart).split("| method |")[:2]
    caption = second.rpartition("|\n\n")[2]
    assert [first[:6], caption[:6]] == ["Excess"] * 2
    said = " ".join(caption.split())
    for text, key in (("of another;", "task"), ("seed 7,", "seed"), ("59 oracles", "members")):
        assert (text in said) == (key in other)


def test_as_many_models_as_needed_stand_together_by_excess_alone(report):
    looks = {"sizes": [10, 20], "made": 1, "stopped": "settled"}
    few, many = (
        changed(result(0.5, n=n, name=f"of_{n}")[2], looks=looks, forget_set=f"s{n}")
        for n in (10, 20)
    )
    assert report(few, many).count("| method |") == 1
    assert "10 to 20 unlearned models against 10 to 20 oracles" in " ".join(
        report(few, many).split()
    )
    assert report(few, many, args=["--metric", "mean"]).count("| method |") == 2


def test_many_sets_are_parted(records, report):
    of = [changed(records["good"], forget_set=f"forget_set_{i}") for i in range(11)]
    table = report(*of)
    heads = [line for line in table.splitlines() if line.startswith("| method")]
    assert [line.count("set ") for line in heads] == [3, 3, 2, 3]
    assert [f"set {i}" for i in range(11)] == [
        cell for head in heads for cell in head.strip("| ").split(" | ")[1:-1]
    ]
    assert table.count("| floor |") == len(heads)


def test_failed_tests_have_a_row_and_a_column(records, tmp_path, capsys):
    path = saved(tmp_path / "out.json", records["good"])
    content = json.loads(path.read_text())
    for name, forget_set in (("broken:lr=1", "made_up"), ("good", "another")):
        params = {"klom_task": "made_up", "klom_method": name, "klom_forget_set": forget_set}
        content["benchmarks"].append({"extra_info": {}, "params": params})
    path.write_text(json.dumps(content))
    assert main(["report", str(path)]) == 0
    table = rows(capsys.readouterr().out)
    cells = {name: line.split(" | ")[1:3] for name, line in table.items()}
    assert cells["broken lr=1"] == ["failed", "n/a"]
    assert cells["good"][1] == "failed"
    assert cells["floor"] == ["0.00 / 0.00 / 0.00", "n/a"]


def test_what_makes_no_table(records, tmp_path, capsys):
    small = result(0.5, n=4)[2]
    other = changed(records["bad"], forget_set_sha256="0" * 64)
    for given, args, message in (
        ([records["good"]] * 2, [], "good on made_up is there twice"),
        ([records["good"], other], [], "made_up stands for two sets of points"),
        ([small], ["--metric", "excess"], "excess needs five models and oracles at least"),
        ([small], ["--metric", "p96"], "--metric: unknown metric 'p96': did you mean p9"),
        ([small], ["-o", str(tmp_path / "x.doc")], "says no format: give --format, or end it in"),
    ):
        path = saved(tmp_path / "out.json", *given)
        assert main(["report", str(path), *args]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "x.doc").exists()


def test_a_record_of_an_earlier_version_is_told(records, tmp_path, capsys):
    old = copy.deepcopy(records["good"])
    del old["nowhere"]
    path = saved(tmp_path / "old.json", old)
    assert main(["report", str(path)]) == 1
    assert capsys.readouterr().err == (
        f"klom report: {path}: this is no record, or one of an earlier version: it has no "
        "'nowhere'; measure it again\n"
    )
