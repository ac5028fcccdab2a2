"""What a record holds beside KLOM: errors, excess, chance, a word."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from klom_bench.cell.gates import Gate
from klom_bench.errors import KlomError, KlomWarning
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.excess import excess
from klom_bench.metrics.permutation import permuted_klom, retrained
from klom_bench.report.failure import failure
from klom_bench.store.store import Store

CPU = torch.device("cpu")
N = 6


@pytest.fixture
def margins(cell, small_store):
    """Of oracles and of originals, once they were measured."""

    def read():
        asked, store = cell("do_nothing", members=N), Store(small_store)
        ids = (asked.oracle_id, asked.original_id)
        return asked, *(store.held(ensemble).margins(N, CPU) for ensemble in ids)

    return read


def test_a_record_holds_what_its_margins_say(measured, margins):
    record = measured("do_nothing", members=N)
    asked, oracle, original = margins()
    found = record.to_json()
    points, back = excess(oracle, original), excess(oracle, original, reverse=True)
    for split, rows in asked.splits.items():
        of = found["excess"][split]
        assert of["value"] == pytest.approx(points[rows].mean())
        assert of["reverse"]["value"] == pytest.approx(back[rows].mean())
        assert of["low"] < of["value"] < of["high"]
        assert found["excess_do_nothing"][split]["value"] == of["value"]
        assert found["highest"][split] == record.points[rows].max()
        assert found["points"][split] == len(rows)
        for name, scores in (("mean", "scores"), ("reverse_p95", "reverse")):
            of = found["errors"][split][name]
            assert of["value"] == found[scores][split][name.removeprefix("reverse_")]
            assert of["low"] < of["value"] < of["high"]
            # Of six models and of an error from 40 draws.
            away = stats.t.ppf(0.975, 1 / (1 / 5 + 1 / 39)) * of["se"]
            assert of["high"] == pytest.approx(of["value"] + away)
    assert found["retrained"] == retrained(oracle, original, asked.splits).as_json()
    assert found["word"] in ("no better than doing nothing", "cannot be told at this N")
    assert found["word_is_provisional"]


def test_the_word_is_of_the_unlearned_models(measured):
    assert measured("ga", members=20, lr=30.0).word == "breaks the rest"
    assert measured("do_nothing", members=20).word == "no better than doing nothing"


def test_with_four_models_there_is_no_excess_and_no_word(measured):
    record = measured("do_nothing", members=4)
    found = record.to_json()
    assert found["excess"] == found["excess_do_nothing"] == {}
    assert found["retrained"] is None
    assert found["word"] == "cannot be told at this N"
    with pytest.raises(KlomError, match="forget_excess needs 5 models and oracles at least"):
        measured("do_nothing", members=4, limits={"forget_excess": 1.0})


def test_the_limit_of_a_perfect_method_comes_from_permuting_models(measured, margins):
    limits = {"val_mean": 5.0, "reverse_val_p95": 5.0, "val_excess": 1.0}
    record = measured("do_nothing", members=N, limits=limits)
    asked, oracle, original = margins()
    rows = asked.splits["val"]
    backward, _, forward = record.gates
    chance = permuted_klom(oracle[:, rows], original[:, rows], asked.estimator)
    assert forward.perfect == np.quantile(chance[False]["mean"], 0.95)
    assert backward.perfect == np.quantile(chance[True]["p95"], 0.95)
    found = record.to_json()["gates"]
    assert [g["perfect_by"] for g in found] == ["permuted models", None, "permuted models"]


@pytest.mark.parametrize(
    ("value", "se", "verdict"),
    [
        (1.0, 0.1, "pass"),
        (1.9, 0.1, "inconclusive"),
        (2.1, 0.1, "inconclusive"),
        (3.0, 0.1, "fail"),
    ],
)
def test_a_gate_with_an_error_is_sure_or_inconclusive(value, se, verdict):
    gate = Gate("val_mean", 2.0, value, 0.5, None, Estimate(value, se, 100))
    assert gate.verdict == verdict
    assert replace(gate, confidence=0.5).verdict == ("pass" if value < 2 else "fail")
    assert replace(gate, estimate=None).verdict == ("pass" if value < 2 else "fail")
    assert replace(gate, limit=0.4).verdict == "inconclusive"  # it lies in the noise
    assert replace(gate, value=np.nan).verdict == "fail"
    low, high = gate.interval
    assert (low > 2) is (verdict == "fail")
    assert (high < 2) is (verdict == "pass")


def test_an_inconclusive_gate_says_what_would_settle_it(measured):
    value = measured("do_nothing", members=N).excess["forget"].value
    limit = round(value * 1.1, 6)
    record = measured("do_nothing", members=N, limits={"forget_excess": limit})
    (gate,) = record.gates
    text = failure(record)
    assert gate.verdict == "inconclusive"
    assert gate.settled_at > N
    assert f"about N = {gate.settled_at} would settle it" in text
    assert f"{value:.2f} (surely " in text
    limits = {"forget_p95": 11.0, "forget_mean": 0.1}
    plain = failure(measured("do_nothing", members=N, limits=limits))
    assert "forget_p95" in plain
    assert "a plain gate" in plain


def test_a_copy_of_an_oracle_is_an_error(measured, cell, small_store):
    store = Store(small_store)

    def copies(model, forget, retain):
        states = store.held(cell("do_nothing", members=N).oracle_id).states_of([*model.members])
        model.load_states(states)
        yield

    with pytest.raises(KlomError, match=r"6 of 6 members \(the first is 0\) have the margins of"):
        measured(copies, members=N)

    def may_look(model, forget, retain, *, oracles):
        yield from copies(model, forget, retain)

    assert measured(may_look, members=N).scores["val"].mean < 1e-9


def test_a_score_too_low_for_chance_is_a_warning(measured, cell, small_store):
    """Copies that are a little off: as far from their oracles as no retrained model is."""
    store = Store(small_store)

    def nearly(model, forget, retain):
        states = store.held(cell("do_nothing", members=20).oracle_id).states_of([*model.members])
        model.load_states(states)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1.0001)
        yield

    with pytest.warns(KlomWarning, match="lies below the floor .* Likely causes: models made from"):
        record = measured(nearly, members=20)
    assert record.to_json()["below_floor"] == ["forget", "retain", "val"]


def test_doing_nothing_and_a_retrain_are_not_too_low(measured, recwarn):
    for method in ("do_nothing", "retrain"):
        assert measured(method, members=N).below_floor == ()
    assert not [w for w in recwarn if w.category is KlomWarning]
