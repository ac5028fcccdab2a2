import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from klom_bench.cell.gates import (
    Earlier,
    Gate,
    Rise,
    check_names,
    checked_limits,
    checked_table,
    limits_for,
    overall,
)
from klom_bench.cell.scoring import References, scored
from klom_bench.errors import KlomError
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.report.failure import failure

TABLE = {
    "val_p95": 1.0,
    "ga": {"forget_p95": 9.0, "forget_set_3": {"forget_p95": 6.0, "val_p95": 2.0}},
}


def test_the_most_specific_table_wins():
    assert limits_for(TABLE, "gda", "forget_set_3") == {"val_p95": 1.0}
    assert limits_for(TABLE, "ga", "forget_set_1") == {"val_p95": 1.0, "forget_p95": 9.0}
    assert limits_for(TABLE, "ga", "forget_set_3") == {"val_p95": 2.0, "forget_p95": 6.0}


@pytest.mark.parametrize(
    ("value", "limit", "perfect", "verdict"),
    [
        (1.0, 2.0, 0.8, "pass"),
        (2.0, 2.0, 0.8, "pass"),
        (2.1, 2.0, 0.8, "fail"),
        (0.1, 0.5, 0.8, "inconclusive"),
        (float("nan"), 2.0, 0.8, "fail"),
    ],
)
def test_verdicts(value, limit, perfect, verdict):
    assert Gate("val_p95", limit, value, perfect).verdict == verdict


NAN = float("nan")


@pytest.mark.parametrize(
    ("value", "perfect", "se", "confidence", "verdict"),
    [
        (1.0, None, 9.0, 0.95, "pass"),
        (1.1, None, 0.01, 0.95, "fail"),
        (1.1, None, 0.1, 0.95, "inconclusive"),
        (1.1, None, 0.1, 0.5, "fail"),
        (1.1, 1.05, 0.01, 0.95, "fail"),
        (1.1, 1.2, 0.01, 0.95, "inconclusive"),  # a perfect method may have it
        (1.1, 1.05, 0.1, 0.95, "inconclusive"),
        (1.1, 1.05, None, 0.95, "fail"),  # a percentile
        (1.1, 1.2, None, 0.95, "inconclusive"),
        (NAN, None, 0.01, 0.95, "fail"),
    ],
)
def test_a_rise_is_judged_by_its_own_error(value, perfect, se, confidence, verdict):
    gate = risen(value, se, confidence, perfect=perfect)
    assert gate.verdict == verdict


@pytest.mark.parametrize(
    ("value", "se", "verdict"),
    [
        (1.1, 0.01, "fail"),
        (0.9, 0.01, "pass"),
        (0.9, 0.1, "inconclusive"),
        (0.9, None, "inconclusive"),
    ],
)
def test_while_more_models_may_come_a_rise_is_told_where_it_is_sure(value, se, verdict):
    assert risen(value, se, metric="val_excess", early=True).verdict == verdict
    assert risen(value, se, metric="val_mean", early=True).verdict == "inconclusive"


def risen(value, se, confidence=0.95, perfect=None, metric="val_mean", early=False):
    """A gate that allows 1.0 after 0.8."""
    rise = None
    if se is not None:
        rise = Rise(Estimate(value - 0.8, se, 100), Estimate(value - 1.0, se, 100), "nothing")
    earlier = Earlier(0.8, "0.2", "old.json", (), rise)
    now = Estimate(value, 0.3, 100)
    return Gate(metric, 1.0, value, perfect, earlier, now, confidence, early)


def test_a_rise_that_would_have_been_seen():
    t, z = stats.t.ppf(0.95, 99), stats.norm.ppf(0.8)
    assert risen(1.1, 0.1).seen == pytest.approx(1.0 + (t + z) * 0.1)
    assert risen(1.1, None).seen is None
    assert risen(1.1, 0.1).settled_at == pytest.approx(100 * t**2, abs=1)


def test_the_worst_verdict_counts():
    good, bad, unclear = (Gate("val_p95", limit, 1.0, 0.8) for limit in (2.0, 0.9, 0.5))
    assert overall([]) == "none"
    assert overall([good, good]) == "pass"
    assert overall([good, unclear]) == "inconclusive"
    assert overall([good, unclear, bad]) == "fail"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"forget_p59": 1}, "unknown limit 'forget_p59': did you mean forget_p9"),
        ({"val_p95": "low"}, "must be a number >= 0, got 'low'"),
        ({"val_p95": True}, "must be a number"),
        ({"val_p95": -1}, "must be a number >= 0"),
        ({"val_p95": 12}, "can never fail"),
        ({"val_p95": float("nan")}, "must be a number >= 0"),
    ],
)
def test_bad_limits(limits, message):
    with pytest.raises(KlomError, match=message):
        checked_limits(limits, "here")


def test_bad_tables():
    with pytest.raises(KlomError, match=r"\[tool\.klom\.gates\.ga\.forget_set_3\].*'vall_p95'"):
        checked_table({"ga": {"forget_set_3": {"vall_p95": 1}}})
    with pytest.raises(KlomError, match=r"no deeper than METHOD\.FORGET_SET"):
        checked_table({"ga": {"forget_set_3": {"x": {}}}})
    with pytest.raises(KlomError, match="must be a table"):
        checked_table(3)
    with pytest.raises(KlomError, match=r"unknown method 'gaa': did you mean ga"):
        check_names({"gaa": {}}, ["ga", "scrub"], [])
    with pytest.raises(KlomError, match=r"unknown forget set 'forget_set_33'"):
        check_names(TABLE | {"ga": {"forget_set_33": {}}}, ["ga"], ["forget_set_3"])


def test_a_failure_says_all_that_one_needs(measured):
    limits = {"forget_mean": 4.0, "val_p95": 11.5}
    record = measured("ga", members=20, lr=30.0, limits=limits)
    text = failure(record)
    rows = set(record.splits["forget"].tolist())
    assert record.verdict == "fail"
    mean = record.errors["forget"]["mean"]
    low = mean.value - mean.times_error(0.95)
    assert f"forget_mean: {mean.value:.2f} (surely {low:.2f} to " in text
    assert "95% at either end) exceeds the limit 4: fail" in text
    assert "floor 3." in text
    assert "at this N, with these models and 100 points" in text
    assert "doing nothing has" in text
    assert "val_p95:" in text
    assert "pass" in text
    worst = record.worst["forget"]
    assert len(worst) == 5
    assert {point for point, _ in worst} <= rows
    assert worst[0][1] == record.points[list(rows)].max()
    assert all(f"{point} ({score:.2f})" in text for point, score in worst)


def test_a_limit_in_the_noise_says_what_would_decide_it(measured):
    record = measured("do_nothing", limits={"val_p95": 1.0})
    assert ("would fail such a limit, too" in failure(record)) == (
        record.gates[0].value > record.gates[0].perfect
    )
    assert record.verdict == "inconclusive"
    needed = int(
        re.search(r"--klom-models=(\d+) --klom-oracles=\1 would decide it", failure(record))[1]
    )
    assert 50 < needed < 120
    zero = measured("do_nothing", limits={"val_p95": 0.0})
    assert "no N that can be simulated" in failure(zero)


def test_a_passing_record_has_nothing_to_say(measured):
    assert failure(measured("do_nothing")) is None
    assert failure(measured("do_nothing", limits={"val_p95": 11.5})) is None


def test_nan_fails_even_without_a_gate(cell):
    """The code of 2024 gives nan where nothing varies."""
    estimator, rng = ESTIMATORS["attribute_to_delete"], np.random.default_rng(0)
    asked = replace(cell("ga"), estimator=estimator)
    oracle, unlearned = (rng.standard_normal((4, 1797)) for _ in range(2))
    for margins in (oracle, unlearned):
        margins[:, [5, 9]] = 3
    references = References(oracle, None, asked.splits, estimator, 4)
    text = failure(scored(asked.asked, references, unlearned))
    assert "'attribute_to_delete' gives nan at 2 points (the first is point 5)" in text
