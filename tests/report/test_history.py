"""Tests from run to run: what is compared with what, and since when it is so."""

import re
from dataclasses import replace

import pytest
from helpers.compared import result

from klom_bench.cell.comparing import compared
from klom_bench.errors import KlomError
from klom_bench.report.history import histories, in_order, what_of_the_runs
from klom_bench.report.history_table import lines
from klom_bench.report.runs import Commit, SavedRun


@pytest.fixture(scope="module")
def made():
    """Records of one method that moves by more or less, by how much; .4 is better than .3."""
    return {lr: result(lr)[2] for lr in (0.1, 0.3, 0.4, 1.2)}


@pytest.fixture
def run(made):
    """run(day, lr, **changed): a saved run of a day in January; lr None: its test failed."""

    def one(day, lr, **changed):
        at, commit = f"2026-01-{day:02}T10:00:00+00:00", Commit(f"{day:040x}"[::-1])
        failed = {key: made[0.3][key] for key in ("task", "forget_set", "method", "setting")}
        rows, failures = ((made[lr] | changed,), ()) if lr else ((), (failed,))
        return SavedRun(f"{day}.json", rows, failures, at, commit)

    return one


def history(runs, metric="forget_excess"):
    (one,) = histories(runs, [metric])
    return one


def said(runs, metric="forget_excess"):
    """The rows of the table, and what stands below it."""
    text = [*lines([history(runs, metric)], every=True)]
    rows = [line for line in text if re.match(r"\d{4}-\d\d-\d\d |\.\.\.|no time", line)]
    return rows, text[2 + len(rows) :]


def test_each_run_is_held_against_the_one_before(run, made):
    found = history([run(3, 0.3), run(1, 0.3), run(2, 0.4)])
    assert found.name == "made_up-made_up-shift"
    assert [step.run.name for step in found.steps] == ["1.json", "2.json", "3.json"]
    first, second, third = found.steps
    assert (first.before, first.found, first.why, first.changed) == (None, None, "", ())
    for step, before, now, was in ((second, first, 0.4, 0.3), (third, second, 0.3, 0.4)):
        assert step.before is before.run
        assert step.found == compared(made[now], made[was], "forget_excess")
        assert step.changed == (f"lr {was} -> {now}",)
        error = made[now]["excess"]["forget"]
        assert (step.value, step.low, step.high) == (error["value"], error["low"], error["high"])
    assert [second.found.change, third.found.change] == ["better", "worse"]
    assert found.since is third
    assert found.overall == compared(made[0.3], made[0.3], "forget_excess")


def test_since_when_is_found_behind_runs_without_a_change(run):
    runs = [run(day, 0.3 if day < 3 else 0.4) for day in range(1, 6)]
    since = history(runs).since
    assert (since.before.name, since.run.name, since.found.change) == ("2.json", "3.json", "better")
    rows, below = said(runs)
    assert [row.split("  ")[-1] for row in rows[1:]] == [
        "no difference",
        "better; lr 0.3 -> 0.4",
        "no difference",
        "no difference",
    ]
    assert below[:2] == [
        "better since 30000000 (2026-01-03 10:00); before it 20000000 (2026-01-02 10:00)",
        f"from the first run to the last: better, {rows[2].split('  ')[-2].strip()}",
    ]
    unchanged = history(runs, "val_excess")  # only forget points moved
    assert (unchanged.since, unchanged.changed) == (None, False)
    assert said(runs, "val_excess")[1][0] == "no change seen from run to run in 5 runs"


def test_what_went_slowly_shows_from_the_first_to_the_last(run):
    runs = [run(1, 0.4), run(2, 0.1), run(3, 1.2)]
    found = history(runs, "forget_mean")
    assert [step.found.change for step in found.steps[1:]] == ["no difference"] * 2
    assert (found.since, found.overall.change, found.changed) == (None, "worse", True)
    assert any(
        line.startswith("from the first run to the last: worse, +")
        for line in said(runs, "forget_mean")[1]
    )


def test_a_run_of_another_kind_between_is_not_compared_and_hides_nothing(run, made):
    other = replace(run(2, 0.3), rows=(result(0.3, n=12)[2] | {"seed": 7},))
    runs = [run(1, 0.3), other, run(3, None), run(4, 0.4)]
    mean = history(runs, "forget_mean")
    assert [step.why for step in mean.steps] == [
        "",
        "another N and another seed",
        "the test ended before it was scored",
        "",
    ]
    assert mean.steps[1].value is not None
    assert mean.steps[2].value is None
    assert mean.steps[3].before.name == "1.json"
    rows, _ = said(runs, "forget_mean")
    assert rows[1].endswith("not compared: another N and another seed")
    assert rows[2].split("  ")[-1].strip() == "the test ended before it was scored"
    assert history(runs).steps[1].found  # excess is the same at every N
    moved = [run(1, 0.3), run(2, 0.3, forget_set_sha256="x")]
    assert history(moved).steps[1].why == "other points in the forget set"


def test_percentiles_have_numbers_and_no_words(run):
    runs = [run(1, 0.3), run(2, 0.4)]
    found = history(runs, "forget_p95")
    assert found.steps[1].found.change is None
    assert found.since is found.overall is None
    rows, below = said(runs, "forget_p95")
    assert rows[1].endswith("lr 0.3 -> 0.4")
    assert "rows without a word: no error of such a difference is known" in below
    assert not any("no change" in line for line in below)


def test_a_metric_without_a_number_is_left_out(run):
    assert histories([run(1, 0.3, excess={}), run(2, 0.3, excess={})]) == []
    steps = history([run(1, 0.3, excess={}), run(2, 0.3)]).steps
    assert [step.why for step in steps] == ["no number", ""]
    assert history([run(1, None), run(2, 0.3)]).steps[1].why == ""


def test_runs_are_counted_once_and_put_in_order(run):
    early, late = run(1, 0.3), run(2, 0.4)
    copy = replace(late, name="copy.json")
    timeless = [replace(run(3, 0.3), name=f"{at}.json", at=at) for at in ("", "last week")]
    zone = replace(run(3, 0.1), name="zone.json", at="2026-01-01T09:30:00-02:00")  # after `early`
    runs = [late, zone, copy, early, *timeless]
    assert [of.name for of in in_order(runs)] == [
        ".json",
        "last week.json",
        "1.json",
        "zone.json",
        "2.json",
    ]
    assert [*what_of_the_runs(runs)] == [
        "given twice, and counted once: 1 run",
        "no time is known of .json, last week.json: before all others, in the order given",
    ]
    (alone,) = what_of_the_runs([early, early, early][:1])
    assert "one run is no history: with --benchmark-autosave" in alone


def test_of_many_runs_those_around_changes_are_shown(run):
    runs = [run(day, 0.3 if day < 10 else 0.4) for day in range(1, 21)]
    rows, _ = said(runs)
    shown = [row.split()[0] for row in rows]
    assert shown == [
        *("2026-01-01", "...", "2026-01-09", "2026-01-10", "..."),
        *("2026-01-18", "2026-01-19", "2026-01-20"),
    ]
    assert [row for row in rows if row.startswith("...")] == ["... 7 more", "... 7 more"]
    assert len(said(runs[:12])[0]) == 12


def test_two_records_of_one_test_must_not_differ(run, made):
    both = replace(run(1, 0.3), rows=(made[0.3], made[0.4]))
    with pytest.raises(KlomError, match=r"^1.json: two records of made_up-made_up-shift differ"):
        histories([both])
