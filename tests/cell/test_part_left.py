"""Real models of which a part of the forget set was never taken away: how much is told to be left?"""

import math

import numpy as np
import pytest
from helpers.part_left import PartLeft, trained

from klom_bench.metrics.leftover import leftover
from klom_bench.tasks import DIGITS
from klom_bench.tasks.ensemble_id import EnsembleId

N, SEED = 20, 11
MEMBERS = range(N)
FORGET = DIGITS.forget_set("forget_set_5")
ROWS = FORGET.indices


@pytest.fixture(scope="module")
def oracles():
    return trained(EnsembleId(DIGITS, "oracle", SEED, FORGET), MEMBERS)[:, ROWS]


@pytest.fixture(scope="module")
def originals():
    return trained(EnsembleId(DIGITS, "original", SEED), MEMBERS)[:, ROWS]


@pytest.fixture(scope="module")
def retrained():
    return trained(PartLeft(DIGITS, "original", SEED, FORGET, 0.0), MEMBERS)[:, ROWS]


@pytest.mark.parametrize("share", [0.16, 0.4, 0.6])
def test_its_interval_holds_the_share(oracles, originals, share):
    """Which points stay is drawn for each member; each is trained from its original's start."""
    part = PartLeft(DIGITS, "original", SEED, FORGET, share)
    kept = [part.kept(i) for i in (0, 1)]
    assert {len(set(k) - set(FORGET.retain)) for k in kept} == {round(share * len(FORGET))}
    assert not np.array_equal(*kept)
    low, high = leftover(oracles, originals, trained(part, MEMBERS)[:, ROWS]).estimate.interval()
    assert low <= 100 * share <= high
    assert high - low < 30


def test_doing_nothing_leaves_all_and_a_retrain_nothing(oracles, originals, retrained):
    assert leftover(oracles, originals, originals).estimate.value == 100
    low, high = leftover(oracles, originals, retrained).estimate.interval()
    assert low <= 0 <= high < 15
    # Pairs begin alike, and it shows: they have something in common to be taken off.
    alike = [np.corrcoef(x, u)[0, 1] for x, u in zip(originals.T, retrained.T, strict=True)]
    assert np.mean(alike) > 0.3


@pytest.mark.parametrize("of", ["originals", "retrained"])
def test_noise_on_outputs_gets_no_number(oracles, request, of):
    models, rng = request.getfixturevalue(of), np.random.default_rng(0)
    noisy = models + 2 * oracles.std(0) * rng.standard_normal(models.shape)
    assert leftover(oracles, request.getfixturevalue("originals"), noisy).why == "too wide"


@pytest.mark.parametrize("count", [1, 2, 10])
def test_ruined_members_get_no_number(oracles, originals, retrained, count):
    """They guess, as one of ten classes."""
    ruined = retrained.copy()
    ruined[:count] = math.log(1 / 9) + np.random.default_rng(0).standard_normal(ruined[0].shape)
    assert leftover(oracles, originals, ruined).off_the_line


@pytest.mark.parametrize("lr", [3.0, 30.0])
def test_a_strong_ga_gets_no_number(measured, lr):
    found = measured("ga", members=20, lr=lr, limits={"forget_leftover": 100.0})
    assert found.leftover.off_the_line
    assert found.verdict == "fail"
