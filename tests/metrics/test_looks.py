"""How sure each of several looks must be: against published constants, and another integration."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from klom_bench.metrics.looks import sure_at_each, wrong_once

# Jennison and Turnbull (2000), table 2.1: two-sided 5 %, that is .025 on either side.
POCOCK = {2: 2.178, 3: 2.289, 4: 2.361, 5: 2.413, 8: 2.512, 10: 2.555}


@pytest.mark.parametrize("looks", POCOCK)
def test_equal_looks_have_the_published_constants(looks):
    sizes = tuple(20 * (i + 1) for i in range(looks))
    assert norm.ppf(sure_at_each(sizes, 0.975)) == pytest.approx(POCOCK[looks], abs=6e-4)


@pytest.mark.parametrize(
    "looks", [(20, 50, 100), (5, 100), (10, 11, 12, 100), (20, 40, 60, 80, 100)]
)
@pytest.mark.parametrize("z", [0.5, 1.9, 2.6])
def test_unequal_looks_are_what_their_joint_law_says(looks, z):
    n = np.array(looks)
    correlation = np.sqrt(np.minimum.outer(n, n) / np.maximum.outer(n, n))
    law = multivariate_normal(np.zeros(len(n)), correlation, abseps=1e-6, maxpts=300_000, seed=0)
    assert wrong_once(z, looks) == pytest.approx(1 - law.cdf([z] * len(n)), abs=2e-5)


def test_walks_are_wrong_as_often_as_asked_for():
    rng, looks = np.random.default_rng(0), (20, 50, 100)
    steps = np.sqrt(np.diff(looks, prepend=0)) * rng.standard_normal((200_000, 3))
    heights = steps.cumsum(1) / np.sqrt(looks)
    for confidence in (0.5, 0.8, 0.95):
        wrong = (heights > norm.ppf(sure_at_each(looks, confidence))).any(1).mean()
        assert wrong == pytest.approx(1 - confidence, abs=0.004)


def test_one_look_is_as_sure_as_it_is():
    assert sure_at_each((100,), 0.95) == 0.95
