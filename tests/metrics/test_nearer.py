"""Nearer or farther, and the share of the way: against truth on known laws."""

import math

import numpy as np
import pytest

from klom_bench.metrics.excess import Jackknife, mean_excess
from klom_bench.metrics.nearer import nearer


def margins(seed=0, n=40, points=60, before=1.0, after=0.5, shared=0.1):
    """Oracles, originals `before` sd away, and `after` sd away what was made of them."""
    rng = np.random.default_rng(seed)

    def noise():
        own, of_model = rng.standard_normal((n, points)), rng.standard_normal((n, 1))
        return math.sqrt(1 - shared) * own + math.sqrt(shared) * of_model

    oracle, models = noise(), noise()
    return oracle, models + before, 0.8 * models + 0.6 * noise() + after


def both(oracle, original, unlearned):
    rows = {"all": np.arange(oracle.shape[1])}
    nothing, now = (mean_excess(oracle, x, rows)["all"].forward for x in (original, unlearned))
    return nothing, now, nearer(nothing, now)


@pytest.mark.parametrize(
    ("after", "word"),
    [
        (0.5, "nearer the retrained"),
        (-0.5, "nearer the retrained"),
        (1.6, "farther than the original"),
        (1.0, "cannot be told"),
    ],
)
def test_says_which_is_nearer(after, word):
    nothing, now, found = both(*margins(after=after))
    assert found.word == word
    assert found.gain.value == pytest.approx(nothing.value - now.value)
    assert found.gain == (nothing - now).estimate


def test_at_equal_distance_it_is_seldom_told():
    words = [both(*margins(seed, 20, 30, after=-1.0))[2].word for seed in range(300)]
    assert words.count("nearer the retrained") <= 15
    assert words.count("farther than the original") <= 8
    assert words.count("cannot be told") >= 280


def known(value, error, n=200):
    """A statistic with this error."""
    each = value + error / math.sqrt(n - 1) * np.where(np.arange(n) % 2, 1, -1)
    return Jackknife(value, np.full(n, value), each)


@pytest.mark.parametrize(
    ("gain", "word"),
    [
        (1.9, "cannot be told"),
        (2.1, "nearer the retrained"),
        (-2.2, "cannot be told"),
        (-2.5, "farther than the original"),
    ],
)
def test_farther_needs_more_errors_than_nearer(gain, word):
    found = nearer(known(5 + gain, 0), known(5, 1))
    assert found.gain.se == pytest.approx(1)
    assert found.word == word


class TestShare:
    def test_is_that_of_the_way_with_the_error_of_a_ratio(self):
        runs = [both(*margins(seed)) for seed in range(200)]
        nothing, now, found = runs[0]
        assert found.share.value == pytest.approx(1 - now.value / nothing.value)
        values = [run[2].share.value for run in runs]
        assert np.mean(values) == pytest.approx(1 - 0.25, abs=0.03)
        errors = np.mean([run[2].share.se for run in runs])
        assert errors == pytest.approx(np.std(values), rel=0.2)

    def test_is_at_most_1(self):
        oracle, original, unlearned = margins(after=0.0)
        narrow = unlearned.mean(0) + 1.001 * (unlearned - unlearned.mean(0))
        found = [both(*margins(seed, after=0.0))[2].share.value for seed in range(20)]
        assert max(found) == 1
        assert min(found) > 0.9
        assert both(oracle, original, narrow)[2].share.se > 0

    def test_may_be_below_0(self):
        assert both(*margins(after=1.15, n=80))[2].share.value < 0

    def test_is_none_where_there_is_nothing_to_forget(self):
        assert both(*margins(before=0.0, after=0.0))[2].share is None

    def test_is_none_where_it_is_hardly_known(self):
        nothing = known(1, 0.1)
        assert nearer(nothing, known(0.5, 0.2)).share.value == pytest.approx(0.5)
        assert nearer(nothing, known(0.5, 0.4)).share is None
        away = known(1, 0.6)  # not surely: half of it is half of the way, but of what?
        assert nearer(away, away * 0.5).share is None

    def test_without_points_nothing_is_told(self):
        oracle, _, unlearned = margins()
        empty = mean_excess(oracle, unlearned, {"none": np.arange(0)})["none"].forward
        found = nearer(empty, empty)
        assert (found.word, found.share) == ("cannot be told", None)
        assert found.as_json()["gain"]["value"] is None
