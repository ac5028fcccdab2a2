"""Records of one forget set beside each other, in JSON: what pairs them, and what does not."""

import copy
import json
import math

import numpy as np
import pytest
from helpers.compared import DEFAULT, SPLITS, F, margins, result

from klom_bench.cell.comparing import compared, pairing_in, settings_that_differ
from klom_bench.cell.pairing import fingerprint
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import asked
from klom_bench.cell.scoring import References, scored
from klom_bench.errors import KlomError
from klom_bench.metrics.comparison import excess_difference
from klom_bench.metrics.excess import mean_excess

ALL = "originals and oracles"


def test_the_error_of_a_small_change_is_that_of_the_margins():
    """What is kept in JSON is enough: to 1 %."""
    (o, u, now), (_, v, before) = result(0.3), result(0.301)
    found = compared(now, before, "forget_excess")
    a, b = (mean_excess(o, x, SPLITS)["forget"].forward for x in (u, v))
    exact = excess_difference(a, b, ALL)
    assert found.paired == ALL
    assert found.difference.value == pytest.approx(exact.value, rel=1e-9)
    assert found.difference.se == pytest.approx(exact.se, rel=0.01)
    assert found.difference.skew == pytest.approx(exact.skew, abs=0.02)
    assert found.change == "worse"
    assert (found.now, found.before) == (a.value, b.value)
    apart = compared(now, result(0.301, seed=9)[2], "forget_excess")
    assert (apart.paired, apart.change) == ("nothing", "no difference")
    assert apart.difference.se > 100 * found.difference.se
    assert apart.smallest == pytest.approx((2.093 + 0.8416) * apart.difference.se, rel=1e-3)


def test_means_of_klom_are_paired_by_their_draws():
    now, before, other = result(0.3)[2], result(0.32)[2], result(0.32, seed=9)[2]
    for metric in ("forget_mean", "reverse_forget_mean"):
        paired, apart = (compared(now, old, metric) for old in (before, other))
        assert (paired.paired, apart.paired) == (ALL, "nothing")
        name = metric.replace("forget_", "")
        a, b, c = (record["errors"]["forget"][name]["se"] for record in (now, before, other))
        assert apart.difference.se == pytest.approx(math.hypot(a, c), rel=1e-6)
        assert paired.difference.se < 0.5 * math.hypot(a, b)
        allowed = compared(now, other, metric, 1.1).difference
        assert allowed.se == pytest.approx(math.hypot(a, 1.1 * c), rel=1e-6)
        assert allowed.value == pytest.approx(apart.now - 1.1 * apart.before)
    percentile = compared(now, before, "forget_p95")
    assert percentile.change is None
    assert percentile.difference.value == percentile.now - percentile.before


def test_oracles_alone_are_shared_where_originals_are_not_known():
    now, before = result(0.3, originals=False)[2], result(0.301, originals=False)[2]
    found = compared(now, before, "forget_excess")
    whole = compared(result(0.3)[2], result(0.301)[2], "forget_excess")
    assert (found.paired, whole.paired) == ("oracles", ALL)
    assert found.difference.se > whole.difference.se
    assert compared(now, before, "forget_mean").paired == "nothing"


def test_another_n_is_compared_unpaired():
    now, before = result(0.3, n=12)[2], result(0.3, n=20)[2]
    found = compared(now, before, "forget_excess")
    a, b = (record["excess"]["forget"]["se"] for record in (now, before))
    assert (found.paired, found.difference.models) == ("nothing", 12)
    assert found.difference.se == pytest.approx(math.hypot(a, b))


def test_older_records_are_compared_by_their_errors():
    now, before = result(0.3)[2], result(0.301)[2]
    del before["pairing"]
    found = compared(now, before, "forget_excess")
    a, b = (record["excess"]["forget"]["se"] for record in (now, before))
    assert (found.paired, found.difference.se) == ("nothing", pytest.approx(math.hypot(a, b)))
    assert compared(now, before, "forget_mean").change is None
    assert compared(now, before | {"excess": {}}, "forget_excess").change is None
    older = Record.from_json(before)
    assert older.pairing is None
    assert older.to_json()["pairing"] is None


def test_records_of_earlier_epochs_keep_nothing_of_it():
    record = Record.from_json(result(0.3)[2])
    assert record.pairing is not None
    assert record.of_an_earlier_epoch().pairing is None


def test_settings_must_agree_as_far_as_the_metric_asks():
    now = result(0.3)[2]
    other = now | {"seed": 3, "members": {"oracle": 9, "unlearned": 9}, "estimator": {"name": "x"}}
    assert settings_that_differ(now, other, ["forget_excess", "val_excess"]) == []
    for metrics in (["forget_excess", "val_mean"], ["val_p95"], []):
        assert settings_that_differ(now, other, metrics) == ["estimator", "members", "seed"]
    changed = now | {"forget_set_sha256": "abc"}
    assert settings_that_differ(now, changed, ["val_excess"]) == ["forget_set_sha256"]


def test_fingerprints_are_of_these_models_in_this_order():
    x = margins(0, 5)
    assert fingerprint(x) == fingerprint(x.astype(np.float64)) == fingerprint(np.asfortranarray(x))
    other = x.copy()
    other[4, 39] = np.nextafter(other[4, 39], np.float32(9))
    several = [x, other, x[:4], x[::-1], x[:, ::-1], x.reshape(10, 20)]
    assert len({fingerprint(of) for of in several}) == len(several)
    assert all(len(fingerprint(of)) == 16 for of in several)


def test_models_that_few_leave_no_excess_and_splits_without_points_are_left_out():
    few = result(0.3, n=4)[2]
    assert few["pairing"]["excess"] == {}
    assert compared(few, few, "forget_excess").change is None
    empty = {**SPLITS, "val": np.arange(0)}
    oracle, original = margins(1, 8), margins(2, 8)
    of = asked("made_up", F, "shift", "", 8, 8, DEFAULT, 0)
    record = scored(of, References(oracle, original, empty, DEFAULT, 8), original)
    found = json.loads(json.dumps(record.to_json()))
    assert {*found["pairing"]["excess"]} == {*found["pairing"]["draws"]} == {"forget", "retain"}
    assert compared(found, found, "val_mean").change is None
    assert compared(found, found, "val_excess").change is None
    assert Record.from_json(found) == record


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.pop("oracles"),
        lambda p: p.update(oracles=7),
        lambda p: p.update(excess=[]),
        lambda p: p["excess"]["val"].update(without_oracle="0.1 0.2"),
        lambda p: p["excess"]["val"].update(without_unlearned="nan " * 20),
        lambda p: p["draws"]["val"].update(mean="x " * 40),
        lambda p: p["draws"]["val"].update(mean=[0.1] * 40),
        lambda p: p["draws"]["val"].pop("reverse_mean"),
    ],
)
def test_damaged_numbers_are_no_record(damage):
    record = copy.deepcopy(result(0.3)[2])
    damage(record["pairing"])
    with pytest.raises((KeyError, TypeError, ValueError, AttributeError)):
        pairing_in(record)
    with pytest.raises(KlomError, match="this is no record"):
        Record.from_json(record)


def test_what_is_kept_takes_little_space():
    record = result(0.3, n=100)[2]
    whole, pairing = (len(json.dumps(of)) for of in (record, record["pairing"]))
    assert pairing < 10_000
    assert whole < 24_000
