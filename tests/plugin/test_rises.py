"""Baseline gates of numbers that have an error: judged by the error of the difference."""

import json
import math
import re

import pytest
from helpers.baselines import ASKED
from helpers.processes import benchmarks

GA = ("--klom-method=ga", "--klom-forget-set=3")


@pytest.fixture
def against(project, saved, pytester):
    """The gate of ga on set 3 against the saved run of six models, and what was said."""

    def run(rise, *args, path="base.json"):
        asked = (f"--klom-baseline={path}", f"--klom-max-regression={rise}")
        result = project(*GA, *asked, "--benchmark-json=now.json", *args)
        if result.ret == 4:
            return None, result.stderr.str()
        (benchmark,) = benchmarks(pytester.path / "now.json")
        record = benchmark["extra_info"]["klom"]
        (gate,) = record["gates"]
        assert (gate["verdict"] == "pass") == (result.ret == 0)
        return gate | {"before_se": record["excess"]["forget"]["se"]}, result.stdout.str()

    return run


def test_a_small_rise_is_seen_where_the_models_are_the_same(against):
    gate, text = against("forget_excess=0", "--klom-models=6", "--klom-param=lr=0.05")
    rise = gate["rise"]
    assert (gate["verdict"], rise["paired"]) == ("fail", "originals and oracles")
    assert rise["value"] == pytest.approx(gate["value"] - gate["before"])
    assert 0 < rise["low"] < rise["value"] < rise["high"]
    assert rise["se"] < 0.5 * gate["before_se"]
    to = gate["limit"] + rise["smallest"]
    said = rf"difference \+{rise['value']:.4g} .*; paired, the same originals and oracles\); "
    assert re.search(said + rf"a rise to {to:.4g} would fail in 8 of 10 runs", text)
    assert "hyperparameters changed since: lr 0.137" in text


def test_the_same_run_is_no_rise_and_a_share_may_be_allowed(against, saved):
    gate, _ = against("forget_excess=0", "--klom-models=6")
    assert (gate["verdict"], gate["rise"]["value"], gate["rise"]["se"]) == ("pass", 0, 0)
    for share, verdict in (("1%", "fail"), ("90%", "pass")):
        gate, _ = against(f"forget_excess={share}", "--klom-models=6", "--klom-param=lr=0.05")
        assert gate["verdict"] == verdict
        over = gate["rise"]["over"]
        assert over["value"] == pytest.approx(gate["value"] - gate["limit"])
        assert over["se"] != gate["rise"]["se"]


def test_another_n_and_another_seed_are_compared_without_pairs(against):
    gate, text = against("forget_excess=0.01", "--klom-models=5", "--klom-param=lr=0.05")
    rise = gate["rise"]
    assert (rise["paired"], rise["models"]) == ("nothing", 5)
    assert rise["se"] > gate["before_se"]
    assert gate["verdict"] in ("pass", "inconclusive")
    if gate["verdict"] == "inconclusive":
        assert "unpaired" in text
        assert "the rise is still in the noise: more models" in text
    refused, text = against("forget_mean=5%", "--klom-models=5")
    assert refused is None
    assert "members is oracle=6 unlearned=6 there, oracle=5 unlearned=5 is asked for" in text
    assert "excess alone needs neither" in text


def test_another_forget_set_is_refused_all_the_same(against, saved):
    saved(lambda _, record: record.update(forget_set_sha256="abc", seed=3))
    refused, text = against("forget_excess=5", "--klom-models=6")
    assert refused is None
    assert "forget_set_sha256 is abc there" in text
    assert "seed" not in text
    assert "excess alone" not in text


def test_baselines_of_older_versions_are_compared_without_pairs(against, saved):
    saved(lambda _, record: record.pop("pairing"))
    gate, _ = against("forget_excess=5", "--klom-models=6")
    se = gate["before_se"]
    assert gate["rise"]["paired"] == "nothing"
    assert gate["rise"]["se"] == pytest.approx(math.hypot(se, se))
    gate, _ = against("forget_mean=0", "--klom-models=6")  # whose errors they do not have
    assert (gate["verdict"], gate["rise"]) == ("pass", None)


def test_a_mean_of_klom_has_its_rise_told_too(against, saved):
    def lower(_, record):
        record["scores"]["forget"]["mean"] -= 0.3

    saved(lower)
    gate, text = against("forget_mean=0.1", "--klom-models=6")
    assert (gate["rise"]["se"], gate["rise"]["paired"]) == (0, "originals and oracles")
    assert gate["rise"]["value"] == pytest.approx(0.3)
    assert "difference +0.3 (0.3 to 0.3; paired" in text
    verdict = "fail" if gate["value"] > gate["perfect"] else "inconclusive"
    assert gate["verdict"] == verdict


@pytest.mark.parametrize("damage", [{"oracles": 1}, {"excess": {"forget": {}}}])
def test_damaged_pairs_are_no_baseline(against, saved, damage):
    saved(lambda _, record: record["pairing"].update(damage))
    refused, text = against("forget_excess=5", "--klom-models=6")
    assert refused is None
    assert "base.json is not a baseline" in text


def test_a_line_of_the_saved_file_is_what_one_side_of_a_split_has(saved, pytester):
    tests = json.loads((pytester.path / "base.json").read_text())["tests"]
    assert len(tests) == len(ASKED) + 1
    for record in tests.values():
        for sides in record["pairing"]["excess"].values():
            assert {key: len(text.split()) for key, text in sides.items()} == {
                "without_oracle": 6,
                "without_unlearned": 6,
            }
