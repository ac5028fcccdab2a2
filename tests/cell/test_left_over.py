"""What a record says beside doing nothing, and limits on what is left over."""

import json
import re

import numpy as np
import pytest
from helpers.made_up import FORGET, TRAIN, models

from klom_bench import KlomError, Record
from klom_bench.cell.baseline import checked_regression, load, save
from klom_bench.cell.gates import checked_limits
from klom_bench.cell.limits import Limits
from klom_bench.cell.margins import margins_given, record_of
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import mean_excess
from klom_bench.metrics.leftover import Slope, leftover
from klom_bench.metrics.nearer import nearer
from klom_bench.report.beside import beside_nothing, left_over, of_all, way
from klom_bench.report.failure import failure

N = 30
ORACLES, ORIGINALS = models(N, 1), models(N, 2, 3.0)


def moved(left, noise=0.3, seed=3, beside=0.0):
    """The originals with so much of the shift left, and noise on every output."""
    made = ORIGINALS + noise * np.random.default_rng(seed).normal(size=ORIGINALS.shape)
    made[:, FORGET] -= 3.0 * (1 - left)
    made[:, FORGET[::2]] += beside
    made[:, FORGET[1::2]] -= beside
    return made


def record(unlearned=None, originals=ORIGINALS, limits=(), oracle=ORACLES, **held):
    unlearned = moved(0.4) if unlearned is None else unlearned
    known = None if originals is None else margins_given(originals, "originals")
    return record_of(
        oracle=margins_given(oracle, "oracle"),
        unlearned=margins_given(unlearned, "unlearned"),
        originals=known,
        forget=FORGET,
        train_points=TRAIN,
        name="mine",
        estimator=ESTIMATORS["default"],
        limits=Limits(dict(limits), **held),
    )


def again(found):
    return Record.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))


OFF = {
    "too wide": (moved(0.4, noise=2.0), "margins vary 5.* times as much"),
    "beside the line": (moved(0.4, beside=1.5), r"or elsewhere: 2\.\d+ variances a point beside"),
    "beyond the oracles": (moved(-0.4), "beyond the oracles"),
    "beyond the originals": (moved(1.4), "beyond the originals"),
}
UNKNOWN = {"originals": models(N, 2), "unlearned": models(N, 3)}


class TestRecord:
    def test_it_holds_what_its_margins_say(self):
        found, after = record(), moved(0.4)
        rows = {"forget": np.array(FORGET)}
        nothing, now = (mean_excess(ORACLES, x, rows)["forget"] for x in (ORIGINALS, after))
        assert found.nearer["forget"] == nearer(nothing.forward, now.forward)
        assert [*found.nearer] == ["forget", "retain", "val"]
        assert found.leftover == leftover(*(x[:, FORGET] for x in (ORACLES, ORIGINALS, after)))
        assert found.value("forget_leftover") == found.leftover.estimate.value
        assert found.leftover.estimate.value == pytest.approx(40, abs=5)

    @pytest.mark.parametrize("case", [{}, *({"unlearned": OFF[w][0]} for w in OFF), UNKNOWN])
    def test_it_goes_to_json_and_back(self, case):
        found = record(**case, limits={"forget_leftover": 30}, confidence=0.9)
        back = again(found)
        assert back == found
        assert (back.leftover, back.nearer) == (found.leftover, found.nearer)
        assert back.gates == found.gates
        assert failure(back) == failure(found)

    def test_records_of_earlier_versions_are_read(self):
        content = record(limits={"val_excess": 3}).to_json()
        for old in (content, *content["gates"]):
            for name in ("nearer", "leftover", "why"):
                old.pop(name, None)
        found = Record.from_json(content)
        assert (found.nearer, found.leftover, found.verdict) == ({}, None, "pass")

    def test_without_originals_or_with_four_models_there_is_none(self):
        few = models(4, 1), moved(0.4)[:4], ORIGINALS[:4]
        for found in (record(originals=None), record(few[1], few[2], oracle=few[0])):
            assert (found.nearer, found.leftover) == ({}, None)
            assert again(found) == found
        with pytest.raises(KlomError, match="the originals, and they are not known of margins on"):
            record(originals=None).value("forget_leftover")

    def test_doing_nothing_is_100_and_no_nearer(self):
        found = record(ORIGINALS + 0.0)
        assert (found.leftover.estimate.value, found.leftover.estimate.se) == (100, 0)
        assert {of.word for of in found.nearer.values()} == {"cannot be told"}


class TestGate:
    @pytest.mark.parametrize(
        ("limit", "verdict"), [(60, "pass"), (41, "inconclusive"), (20, "fail"), (100, "pass")]
    )
    def test_is_sure_or_inconclusive(self, limit, verdict):
        assert record(limits={"forget_leftover": limit}).verdict == verdict

    def test_its_error_is_the_same_both_ways(self):
        (gate,) = record(limits={"forget_leftover": 90}).gates
        low, high = gate.interval
        assert high - gate.value == pytest.approx(gate.value - low)
        assert Slope(10, 3, 20, 2.0).at_the_limit(90) == Slope(10, 3, 20, 2.0)

    def test_a_failure_is_told_in_per_cent(self):
        text = failure(record(limits={"forget_leftover": 20, "val_excess": 5}))
        assert re.match(r"forget_leftover 4\d\.\d %, limit 20: fail\n  margins on mine", text)
        assert re.search(r"4\d\.\d % \(surely 3\d\.\d % to 4\d\.\d %, 95% at either end\)", text)
        assert "so much of the mean shift is left; a retrain leaves 0 %" in text

    @pytest.mark.parametrize("why", OFF)
    @pytest.mark.parametrize("limit", [1, 100])
    def test_damage_fails_whatever_the_limit(self, why, limit):
        unlearned, reason = OFF[why]
        found = record(unlearned, limits={"forget_leftover": limit})
        assert (found.leftover.why, found.verdict) == (why, "fail")
        text = failure(found)
        assert text.startswith(f"forget_leftover off the line, limit {limit}: fail\n")
        assert re.search(reason, text)

    def test_a_set_of_no_influence_is_inconclusive(self):
        found = record(**UNKNOWN, limits={"forget_leftover": 50})
        assert (found.leftover.why, found.verdict) == ("originals like oracles", "inconclusive")
        text = failure(found)
        assert text.startswith("forget_leftover n/a, limit 50: inconclusive\n")
        assert "the originals cannot be told from the oracles at this N" in text

    @pytest.mark.parametrize(
        ("case", "message"),
        [
            ({"originals": None}, "forget_leftover is a limit of mine, and needs the originals"),
            (
                {"oracle": ORACLES[:4], "unlearned": moved(0.4)[:4], "originals": ORIGINALS[:4]},
                "forget_leftover needs 5 models",
            ),
        ],
    )
    def test_what_has_none_is_refused(self, case, message):
        with pytest.raises(KlomError, match=message):
            record(**case, limits={"forget_leftover": 50})

    def test_limits_are_per_cent(self):
        assert checked_limits({"forget_leftover": 100}, "here") == {"forget_leftover": 100}
        with pytest.raises(KlomError, match="forget_leftover = 101 can never fail: it is in per"):
            checked_limits({"forget_leftover": 101}, "here")
        with pytest.raises(KlomError, match="unknown limit 'retain_leftover'"):
            checked_limits({"retain_leftover": 10}, "here")


class TestBaseline:
    def held(self, path, unlearned, rise="3", change=None):
        save(path, [record().to_json()])
        if change:
            content = json.loads(path.read_text())
            (test,) = content["tests"].values()
            change(test)
            path.write_text(json.dumps(content))
        regressions = {"forget_leftover": checked_regression("forget_leftover", rise)}
        return record(unlearned, baseline=load(path), regressions=regressions)

    @pytest.mark.parametrize(
        ("left", "rise", "verdict"),
        [
            (0.4, "3", "pass"),
            (0.6, "3", "fail"),
            (0.6, "60%", "pass"),
            (0.432, "3", "inconclusive"),
        ],
    )
    def test_a_rise_is_in_points_or_a_share(self, tmp_path, left, rise, verdict):
        found = self.held(tmp_path / "base.json", moved(left, seed=3), rise)
        (gate,) = found.gates
        before = gate.earlier.value
        assert gate.limit == pytest.approx(before * 1.6 if "%" in rise else before + 3)
        assert found.verdict == verdict

    def test_damage_is_no_fall(self, tmp_path):
        found = self.held(tmp_path / "base.json", OFF["too wide"][0])
        assert found.verdict == "fail"
        assert "forget_leftover off the line, limit" in failure(found)

    def test_a_rise_is_told(self, tmp_path):
        text = failure(self.held(tmp_path / "base.json", moved(0.6)))
        assert re.search(r"per cent of the mean shift of the forget set: 4\d\.\d+ before", text)
        assert re.search(r"rose from 4\d\.\d % to 6\d\.\d %, 3 allowed", text)

    def test_a_baseline_without_it_is_read_and_has_nothing_to_compare_with(self, tmp_path):
        with pytest.raises(KlomError, match="has no number for forget_leftover"):
            self.held(tmp_path / "base.json", None, change=lambda test: test.pop("leftover"))

    def test_nonsense_is_no_baseline(self, tmp_path):
        def change(test):
            test["leftover"]["estimate"]["value"] = "much"

        with pytest.raises(KlomError, match="forget_leftover is 'much'"):
            self.held(tmp_path / "base.json", None, change=change)


class TestShown:
    def test_in_a_row(self):
        for unlearned, cell in (
            (moved(0.4), r"4\d % ±[2-9]"),
            (OFF["too wide"][0], "off the line"),
        ):
            assert re.fullmatch(cell, left_over(record(unlearned).to_json()))
        assert left_over(record(**UNKNOWN).to_json()) == "n/a"
        assert left_over(record(originals=None).to_json()) == "n/a"
        shown = record(moved(0.4))
        share = shown.nearer["forget"].share
        assert way(shown.to_json()).startswith(f"{100 * share.value:.0f} % ±")
        assert way(record(originals=None).to_json()) == "n/a"

    def test_rounding_hides_no_error(self):
        content = record().to_json()
        content["leftover"]["estimate"] = {"value": -0.3, "high": 0.05}
        assert left_over(content) == "0 % ±1"

    def test_below_a_run(self):
        every = [record(x).to_json() for x in (moved(0.4), moved(1.5), OFF["too wide"][0])]
        nothing = record(ORIGINALS + 0.0).to_json() | {"method": "do_nothing"}
        nearer_line, off = of_all([*every, nothing, record(originals=None).to_json()])
        assert nearer_line.startswith("nearer the retrained: ")
        assert "farther than the original: 1 on forget" in nearer_line
        assert nearer_line.endswith(
            "(of 3, each beside doing nothing; surely, if perhaps by too little for another word)"
        )
        assert off.startswith("off the line: ")
        assert of_all([nothing, record(originals=None).to_json()]) == []

    def test_of_one_record(self):
        first, second = beside_nothing(record().to_json())
        assert first.startswith("beside doing nothing: nearer the retrained on forget, ")
        assert re.search(r"left over of the mean shift: \d\d % ±\d; of the way: \d\d % ±\d", second)
        assert beside_nothing(record(originals=None).to_json())[0].endswith(": n/a")
