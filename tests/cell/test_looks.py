"""Models are added until each gate is settled."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from klom_bench import run
from klom_bench.cell.clock import Clock
from klom_bench.cell.counts import looks_in
from klom_bench.cell.limits import Limits
from klom_bench.cell.measure import measure
from klom_bench.cell.record import Looks, Record
from klom_bench.errors import KlomError
from klom_bench.metrics.looks import sure_at_each
from klom_bench.store.store import Store
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

LOOKS = (5, 7, 9)
SURE = {"forget_excess": 1e-6}
"""What doing nothing on set 5 exceeds at once."""


@pytest.fixture
def looked(cell, small_store):
    """The record of a cell on set 5 that is looked at with LOOKS."""

    def see(method, limits, looks=LOOKS, store=None, until=float("inf"), timed=None, **asked):
        asked = cell(method, "forget_set_5", members=looks[-1], **asked)
        given = {"timed": timed} if timed else {}
        limits = limits if isinstance(limits, Limits) else Limits(limits)
        return measure(
            replace(asked, looks=looks),
            store or Store(small_store),
            limits=limits,
            until=until,
            **given,
        )

    return see


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_all_threads_have_a_pack(looked, tmp_path, one_thread):
    torch.set_num_threads(2)
    task, store = replace(DIGITS, pack=3), Store(tmp_path)
    looked("do_nothing", SURE, looks=(5, 7, 9), store=store, task=task)
    assert list(store.held(EnsembleId(task, "original", 0)).members) == list(range(6))


@pytest.mark.parametrize(
    ("text", "looks"),
    [
        ("30", (30,)),
        ("auto", (20, 40, 60, 80, 100)),
        ("auto:200", (40, 80, 120, 160, 200)),
        ("auto:12", (5, 8, 10, 12)),
        ("auto:5", (5,)),
        ("auto: 20, 50,100", (20, 50, 100)),
    ],
)
def test_what_may_be_asked_for(text, looks):
    assert looks_in(text, "--klom-models") == looks


@pytest.mark.parametrize(
    "text", ["", "auto:", "auto:4", "auto:20,10", "auto:4,8", "auto:5,5", "some", "-3", "2.5", "1"]
)
def test_what_may_not(text):
    with pytest.raises(KlomError, match="--klom-models"):
        looks_in(text, "--klom-models")


def test_a_sure_gate_ends_it_at_the_first_look(looked):
    record = looked("do_nothing", SURE)
    assert record.verdict == "fail"
    assert (record.members, record.oracles) == (5, 5)
    assert record.looks == Looks(LOOKS, 1, "settled")
    assert Record.from_json(record.to_json()) == record


@pytest.mark.parametrize("method", ["finetune", "ga"])
def test_at_the_last_look_scores_are_those_of_a_plain_run(looked, measured, method):
    plain = measured(method, forget_set="forget_set_5", members=9)
    at_its_score = {"forget_excess": plain.excess["forget"].value}
    record = looked(method, at_its_score)
    assert record.looks == Looks(LOOKS, 3, "maximum")
    assert record.verdict == "inconclusive"
    np.testing.assert_array_equal(record.points, plain.points)
    assert record.excess == plain.excess
    assert record.errors == plain.errors


def test_each_look_asks_for_more_than_one_look_would(looked):
    record = looked("do_nothing", SURE)
    (gate,) = record.gates
    assert gate.confidence == sure_at_each(LOOKS, 0.95) > 0.97


def test_klom_may_pass_early_and_fails_at_the_end_only(looked, measured):
    high = measured("do_nothing", forget_set="forget_set_5", members=5).scores["forget"].mean
    passing = looked("do_nothing", {"forget_mean": high + 3})
    assert (passing.verdict, passing.members) == ("pass", 5)
    unsure = looked("do_nothing", {"forget_mean": high + 0.01})  # within its error
    assert unsure.members > 5
    failing = looked("do_nothing", {"forget_mean": 0.1})
    assert failing.members == 9
    assert failing.verdict == "inconclusive"  # in the noise of nine models
    assert failing.gates[0].perfect is not None


def test_percentiles_without_an_error_wait_for_the_end(looked):
    record = looked("do_nothing", {"forget_p50": 11.0})
    assert (record.verdict, record.members) == ("pass", 9)


def test_it_goes_on_until_the_last_gate_is_settled(looked):
    record = looked("do_nothing", {**SURE, "forget_p99": 11.0})
    assert record.members == 9
    assert record.looks.stopped == "settled"


def test_the_budget_ends_it_after_a_look(looked):
    record = looked("do_nothing", {"forget_mean": 0.1}, until=0)
    assert record.looks == Looks(LOOKS, 1, "budget")
    assert record.verdict == "inconclusive"


def test_oracles_are_added_in_proportion(looked):
    record = looked("do_nothing", SURE, oracles=18)
    assert (record.members, record.oracles) == (5, 10)


def test_there_are_oracles_enough_at_each_look(looked):
    record = looked("do_nothing", SURE, oracles=6)
    assert (record.members, record.oracles) == (5, 5)


def test_a_method_that_is_given_oracles_is_looked_at_once(looked):
    record = looked("oracle_matching", {"forget_excess": 9.0}, looks=(5, 6))
    assert record.members == 6
    assert record.looks is None


def test_it_is_timed_once_and_only_while_members_are_unlearned(looked):
    calls, clock = [], Clock()

    def timed(unlearning):
        calls.append(1)
        unlearning(clock)

    record = looked("finetune", {"forget_p99": 11.0}, timed=timed)
    assert len(calls) == 1
    assert record.seconds["unlearn"] == pytest.approx(clock(), rel=0.2)


def test_no_original_is_unlearned_twice(looked, one_thread):
    counts = []

    def counting(model, forget, retain):
        counts.append(len(next(forget.batches(8))[0]))
        for p in model.parameters():
            p.data.mul_(0.5)
        yield

    looked(counting, {"forget_p50": 11.0}, task=replace(DIGITS, pack=2))
    assert counts == [2, 2, 2, 2, 1]


def test_whole_packs_are_trained_and_no_more(looked, tmp_path, one_thread):
    task, store = replace(DIGITS, pack=4), Store(tmp_path)
    record = looked("do_nothing", SURE, looks=(5, 7, 11), store=store, task=task)
    assert record.members == 5
    assert list(store.held(EnsembleId(task, "original", 0)).members) == list(range(8))


def test_what_was_cut_off_goes_on_with_what_is_there(looked, tmp_path):
    class Cut(Exception):
        pass

    calls = []

    def halves(model, forget, retain):
        calls.append(model)
        if len(calls) == 2:  # at the second look
            raise Cut
        for p in model.parameters():
            p.data.mul_(0.5)
        yield

    task, limits = replace(DIGITS, pack=5), {"forget_p50": 11.0}
    asked = {"looks": (5, 6), "store": Store(tmp_path), "task": task}
    with pytest.raises(Cut):
        looked(halves, limits, **asked)
    there = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    assert len(there) == 2 * 6
    after = looked(halves, limits, **asked)
    assert after.members == 6
    assert there == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    whole = looked(halves, limits, **{**asked, "looks": (6,), "store": None})
    np.testing.assert_array_equal(after.points, whole.points)


def test_run_takes_the_word(small_store):
    (record,) = run(
        "digits",
        "do_nothing",
        forget_sets=5,
        models="auto:5,6",
        limits=SURE,
        store=small_store,
    )
    assert record.looks.stopped == "settled"
    with pytest.raises(KlomError, match="`limits` has none"):
        run("digits", "do_nothing", forget_sets=5, models="auto", store=small_store)
