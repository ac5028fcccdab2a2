"""Oracles that are none, told from margins whose law is known."""

import numpy as np
import pytest

from klom_bench.forget_set import ForgetSet
from klom_bench.metrics.sanity import judged, sanity, strays

POINTS = 300
FORGET = ForgetSet("some", np.arange(30), 200, np.arange(30))


def models(rng, count, shift):
    """Margins that vary a lot from point to point, and together in each model; lower on F."""
    found = 2 * np.random.default_rng(0).normal(size=POINTS) + rng.normal(size=(count, POINTS))
    found += rng.normal(size=(count, 1))
    found[:, :30] -= shift
    return found.astype(np.float32)


@pytest.mark.parametrize("count", [10, 30])
@pytest.mark.parametrize("seed", range(5))
def test_one_original_among_oracles(count, seed):
    rng = np.random.default_rng(seed)
    originals, oracles = models(rng, count, 0), models(rng, count, 2.5)
    assert strays(originals, oracles, FORGET) == []
    oracles[3] = models(rng, 1, 0)
    assert strays(originals, oracles, FORGET) == [3]
    assert strays(originals[:9], oracles, FORGET) == []  # too few to tell


def test_another_order_of_points_is_not_a_set_of_much_influence():
    """Both leave hardly a correlation; only the first has the same margins, elsewhere."""
    rng = np.random.default_rng(0)
    originals, oracles = models(rng, 20, 0), models(rng, 20, 2.5)
    shuffled = oracles.copy()
    shuffled[:, 30:200] = shuffled[:, 30 + rng.permutation(170)]
    problems, _ = judged(sanity(originals, shuffled, FORGET), 20, 20)
    assert ["in another order" in problem for problem in problems] == [True]
    changed = 8 * rng.normal(size=POINTS) + 4 + oracles
    changed[:, :30] -= 30
    problems, notes = judged(sanity(originals, changed, FORGET), 20, 20)
    assert problems == []
    assert ["has much influence" in note for note in notes] == [True]
