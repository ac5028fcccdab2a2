"""klom history: saved runs of each test, one after the other."""

import json

import pytest
from helpers.compared import result, saved

from klom_bench.cell.comparing import compared
from klom_bench.report.history import USUAL

NAME = "made_up-made_up-shift"


@pytest.fixture(scope="module")
def made():
    return {lr: result(lr)[2] for lr in (0.3, 0.4)}


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A folder with three runs where pytest-benchmark keeps them, and files of others."""
    monkeypatch.chdir(tmp_path)
    storage = tmp_path / ".benchmarks" / "Linux-CPython"
    storage.mkdir(parents=True)
    for i, (lr, commit) in enumerate([(0.3, "a" * 40), (0.3, "b" * 40 + "+"), (0.4, "c" * 40)], 1):
        path = storage / f"{i:04}.json"
        saved(path, made[lr], made[0.3] | {"method": "same"}, day=f"03-0{i}", commit=commit)
    (storage / "others.json").write_text(json.dumps({"benchmarks": [{"extra_info": {}}]}))
    (storage / "package.json").write_text("[]")
    return storage


def test_saved_runs_are_found_and_told_one_after_the_other(run, folder, made):
    code, out, err = run("history")
    assert (code, err) == (0, "")
    tables = out.split("\n\n")
    assert [table.splitlines()[0] for table in tables[:4]] == [
        f"{metric} of {name}:" for name in (NAME, "made_up-made_up-same") for metric in USUAL
    ]
    _, head, *rows, since, overall = tables[0].splitlines()
    assert head.split() == ["date", "commit", "value", "difference"]
    error = made[0.4]["excess"]["forget"]
    found = compared(made[0.4], made[0.3], "forget_excess").difference
    assert [row.split()[:3] for row in rows] == [
        [f"2026-03-0{i}", "10:00", commit]
        for i, commit in enumerate(("aaaaaaaa", "bbbbbbbb+", "cccccccc"), 1)
    ]
    number = f"{error['value']:.4f} ±{error['high'] - error['value']:.4f}"
    difference = f"{found.value:+.4f} ±{found.interval()[1] - found.value:.4f}"
    assert rows[2].partition("cccccccc")[2].split() == [
        *(*number.split(), *difference.split(), "better;", "lr", "0.3", "->", "0.4")
    ]
    told = "better since cccccccc (2026-03-03 10:00); before it bbbbbbbb+ (2026-03-02 10:00)"
    assert since == told
    assert overall == f"from the first run to the last: better, {difference}"
    assert tables[3].endswith("no change seen from run to run in 3 runs")
    last = out.splitlines()
    assert "passed over: 2 files below .benchmarks without a KLOM test" in last
    assert any(line.startswith("lower is better; ±: half of the 95 % interval") for line in last)


def test_metrics_and_tests_can_be_picked(run, folder):
    _, out, _ = run("history", "--metric=forget_mean", "--metric=val_p95", "--test=-same")
    titles = [line for line in out.splitlines() if " of made_up" in line]
    assert titles == [f"{metric} of made_up-made_up-same:" for metric in ("forget_mean", "val_p95")]


def test_of_many_only_changes_are_shown(run, made, tmp_path):
    for day, lr in (("01-01", 0.3), ("01-02", 0.4)):
        others = [made[0.3] | {"method": f"same{i}"} for i in range(8)]
        saved(tmp_path / f"{day}.json", made[lr], *others, day=day)
    _, out, _ = run("history", tmp_path)
    titles = [line for line in out.splitlines() if line.endswith(":")]
    assert titles == [f"forget_excess of {NAME}:"]
    assert "17 of 18 tables have no change, so they are left out (made_up-made_up-same0, " in out
    assert "--test PART shows those of tests with PART in their name" in out
    _, out, _ = run("history", tmp_path, "--test=made_up")
    assert len([line for line in out.splitlines() if line.endswith(":")]) == 18


def test_json_has_all_of_it(run, folder, made):
    code, out, _ = run("history", folder, "--json", "--test=shift", "--metric=forget_excess")
    found = json.loads(out, parse_constant=pytest.fail)
    assert (code, found["schema"]) == (0, 1)
    assert [(of["file"], of["commit"][0], of["dirty"]) for of in found["runs"]] == [
        ("0001.json", "a", False),
        ("0002.json", "b", True),
        ("0003.json", "c", False),
    ]
    (history,) = found["histories"]
    assert [history[key] for key in ("task", "forget_set", "method", "setting", "metric")] == [
        *("made_up", "made_up", "shift", "", "forget_excess")
    ]
    first, _, last = history["steps"]
    assert (first["comparison"], first["before"], first["why"]) == (None, None, None)
    error = made[0.4]["excess"]["forget"]
    difference = compared(made[0.4], made[0.3], "forget_excess").difference.as_json()
    assert [last[key] for key in ("run", "value", "low", "high", "before", "changed")] == [
        *(2, error["value"], error["low"], error["high"], 1, ["lr 0.3 -> 0.4"])
    ]
    assert last["comparison"]["change"] == "better"
    assert last["comparison"]["difference"] == history["overall"]["difference"] == difference
    assert history["since"] == 2
    assert found["said"] == [f"passed over: 2 files below {folder} without a KLOM test"]


def test_one_run_says_how_to_have_more_and_a_damaged_one_is_named(run, folder):
    content = json.loads((folder / "0002.json").read_text())
    del content["benchmarks"][0]["extra_info"]["klom"]["scores"]
    (folder / "0002.json").write_text(json.dumps(content))
    (folder / "0003.json").write_text('{"benchm')
    code, out, _ = run("history")
    assert code == 0
    assert "0002.json: this is no record, or one of an earlier version: it has no 'scores'" in out
    assert "0003.json is not a file of --benchmark-json" in out
    assert "one run is no history: with --benchmark-autosave pytest keeps each run" in out
    assert "lower is better" not in out


def test_names_cannot_act_on_a_terminal_or_on_ci(run, made, tmp_path):
    odd = "a\n::error::x\x1b[2J"
    for day, lr in (("01-01", 0.3), ("01-02", 0.4)):
        record = made[lr] | {"method": odd, "task": "::error::t", "hyperparameters": {odd: lr}}
        saved(tmp_path / f"{day}.json", record, day=day, commit=f"::{odd}")
    code, out, _ = run("history", tmp_path)
    assert code == 0
    assert "\x1b" not in out
    assert not [line for line in out.splitlines() if line.lstrip().startswith("::error::x")]
    assert not [line for line in out.splitlines() if line.startswith("::")]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            [],
            "there is no folder .benchmarks here: run pytest with --klom-method and --benchmark-a",
        ),
        (["empty"], "empty: no run of KLOM tests. pytest with --klom-method"),
        (["none.json"], "none.json cannot be read"),
        (["odd.json"], "odd.json has no KLOM test"),
        (["one.json", "--metric=forget_p96"], "unknown metric 'forget_p96': did you mean"),
        (["one.json", "--test=nobody"], "no run has a number for forget_excess or val_excess of"),
    ],
)
def test_bad_input(run, made, tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    saved(tmp_path / "one.json", made[0.3])
    (tmp_path / "odd.json").write_text('{"benchmarks": []}')
    code, out, err = run("history", *args)
    assert (code, out) == (1, "")
    assert message in err
