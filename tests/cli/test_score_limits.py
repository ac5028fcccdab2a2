"""klom score with limits and baselines, and its exit codes."""

import json

import numpy as np
import pytest
from helpers.made_up import FORGET, TRAIN, models


@pytest.fixture
def score(run, tmp_path, monkeypatch):
    """klom score on margins that remember the forget set so much."""
    monkeypatch.chdir(tmp_path)
    np.save("forget.npy", FORGET)
    np.save("oracles.npy", models(8, 1))

    def made(*args, remember=2.0, members=8):
        np.save("mine.npy", models(members, 2, remember))
        indices = ("--forget-indices", "forget.npy", "--train-points", TRAIN)
        return run("score", "oracles.npy", "mine.npy", *indices, *args)

    return made


def test_zero_is_fine_and_one_a_limit_that_is_exceeded(score):
    code, out, _ = score("--max", "forget_excess=11", "--max=val_p95=10.5")
    assert (code, out.splitlines()[-1]) == (0, "within limits")
    code, out, _ = score("--max", "forget_excess=0.1", "--max=val_p95=10.5")
    assert code == 1
    assert "forget_excess: " in out
    assert "exceeds the limit 0.1: fail" in out
    code, out, _ = score("--max", "forget_excess=0.1", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["verdict"] == "fail"
    assert found["gates"][0]["metric"] == "forget_excess"
    assert found["gates"][0]["value"] == found["excess"]["forget"]["value"]
    code, out, _ = score("--max", "val_mean=0.1")
    assert (code, "inconclusive" in out) == (1, True)
    assert score()[0] == 0


def test_a_baseline_is_saved_and_held_against(score):
    assert score("--save-baseline=base.json")[0] == 0
    asked = ("--baseline=base.json", "--max-regression=forget_mean=5%")
    assert score(*asked)[0] == 0
    code, out, _ = score(*asked, remember=6.0)
    assert code == 1
    assert "forget_mean rose from" in out
    code, _, err = score(*asked, "--name=other")
    assert (code, "shares no test with this run" in err) == (2, True)
    code, _, err = score(*asked, members=9)
    assert (code, "does not fit margins-mine-margins" in err) == (2, True)


def test_what_is_left_over_needs_originals(score):
    np.save("originals.npy", models(8, 3, 4.0))
    asked = ("--originals=originals.npy", "--max=forget_leftover=")
    for limit, expected in ((99, 0), (10, 1)):
        code, out, _ = score(*asked[:1], asked[1] + str(limit))
        assert code == expected
        assert "on forget, left over of the mean shift: 4" in out
        assert "beside doing nothing: nearer the retrained on forget" in out
    code, out, _ = score(asked[0], "--json")
    found = json.loads(out)
    assert (code, found["verdict"]) == (0, "none")
    assert found["leftover"]["estimate"]["value"] == pytest.approx(50, abs=10)
    assert found["nearer"]["forget"]["word"] == "nearer the retrained"
    code, _, err = score(asked[1] + "10")
    assert (code, "needs the originals" in err) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max=forget_p96=1"], "--max: unknown limit 'forget_p96'"),
        (["--max=forget_p95"], "NAME=VALUE is expected"),
        (["--max=forget_p95=low"], "must be a number >= 0"),
        (["--baseline=base.json"], "belong together"),
        (["--max-regression=val_p95=1"], "belong together"),
        (["--baseline=base.json", "--max-regression=val_p95=1"], "base.json cannot be read"),
        (["--save-baseline=no/base.json"], "No such file"),
        (["--name=a/b", "--max=val_p95=1"], "the name 'a/b'"),
        (["--train-points=1000"], "fewer than 1000 train points"),
    ],
)
def test_two_is_bad_input(score, args, message):
    code, _, err = score(*args)
    assert code == 2
    assert message in err


def test_limits_need_splits(run, score, tmp_path):
    score()
    code, _, err = run("score", "oracles.npy", "mine.npy", "--max=val_p95=1")
    assert (code, "--forget-indices" in err) == (2, True)
