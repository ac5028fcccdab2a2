"""Differences of results against brute force, and against what repeats show."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from klom_bench.metrics.comparison import (
    Comparison,
    apart,
    drawn_difference,
    excess_difference,
    paired_by,
    smallest_seen,
    surely_different,
    two_sided_p,
)
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.excess import excess, mean_excess
from klom_bench.metrics.klom import klom
from klom_bench.metrics.resampling import DRAWS, klom_errors, with_error

ALL = "originals and oracles"
SHARED = (ALL, "oracles", "originals", "nothing")
POINTS = 12


def jackknife(oracle, unlearned):
    rows = {"all": np.arange(oracle.shape[1])}
    return mean_excess(oracle, unlearned, rows)["all"].forward


def pair(rng, n, shared, m=None, change=0.1):
    """Two results (oracles, unlearned) of slightly different methods, that share so much."""
    oracle = rng.standard_normal((n, POINTS))
    original = rng.standard_normal((n, POINTS)) + 1
    other_oracle = oracle if "oracles" in shared else rng.standard_normal((m or n, POINTS))
    other = original if "originals" in shared else rng.standard_normal((m or n, POINTS)) + 1
    step = 0.1 * rng.standard_normal(original.shape)
    return (oracle, original * 0.8), (other_oracle, other * (0.8 + change) + step[: len(other)])


def slowly(now, before, shared, factor):
    """The value, and its error from the whole difference without each model in turn."""

    def value(o, u, p, v):
        return excess(o, u).mean() - factor * excess(p, v).mean()

    sides = [*now, *before]
    groups = [
        *([(0, 2)] if "oracles" in shared else [(0,), (2,)]),
        *([(1, 3)] if "originals" in shared else [(1,), (3,)]),
    ]
    variance = 0.0
    for group in groups:
        n = len(sides[group[0]])
        left = [
            value(*(np.delete(x, i, 0) if k in group else x for k, x in enumerate(sides)))
            for i in range(n)
        ]
        variance += (n - 1) / n * ((np.array(left) - np.mean(left)) ** 2).sum()
    return value(*sides), math.sqrt(variance)


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("factor", [1.0, 1.1])
def test_leaves_out_of_both_who_is_in_both(shared, factor):
    now, before = pair(np.random.default_rng(0), 9, shared)
    found = excess_difference(jackknife(*now), jackknife(*before), shared, factor)
    assert (found.value, found.se) == pytest.approx(slowly(now, before, shared, factor))
    assert found.models == 9


def test_the_paired_is_the_unpaired_where_nothing_is_shared():
    now, before = pair(np.random.default_rng(1), 20, "nothing", m=12)
    x, y = jackknife(*now), jackknife(*before)
    for factor in (1.0, 1.1, -1.0):
        whole = excess_difference(x, y, "nothing", factor)
        alone = apart(x.estimate, y.estimate, factor)
        assert whole.value == pytest.approx(alone.value)
        assert whole.se == pytest.approx(alone.se)
        assert whole.skew == pytest.approx(alone.skew)
        assert whole.models == alone.models == 12


@pytest.mark.parametrize("shared", SHARED)
def test_intervals_hold_the_truth_and_errors_are_those_of_repeats(shared):
    rng = np.random.default_rng(2)
    made = [pair(rng, 40, shared) for _ in range(250)]
    found = [excess_difference(jackknife(*a), jackknife(*b), shared) for a, b in made]
    values = np.array([d.value for d in found])
    hold = [low <= values.mean() <= high for low, high in (d.interval() for d in found)]
    assert np.mean(hold) > 0.9
    assert np.mean([d.se for d in found]) == pytest.approx(values.std(), rel=0.15)
    alone = [apart(jackknife(*a).estimate, jackknife(*b).estimate) for a, b in made[:50]]
    ratio = np.mean([d.se for d in found[:50]]) / np.mean([d.se for d in alone])
    assert ratio < (0.6 if shared == ALL else 1.01)
    assert (ratio > 0.99) == (shared == "nothing")


@pytest.mark.parametrize("paired", [True, False])
def test_errors_of_means_of_klom_are_those_of_repeats(paired):
    rng, est, rows = np.random.default_rng(3), ESTIMATORS["default"], {"all": np.arange(POINTS)}
    found = []
    for _ in range(90):
        estimates, draws = [], []
        for o, u in pair(rng, 40, ALL if paired else "nothing", change=0.4):
            errors, _ = klom_errors(np.float32(o), np.float32(u), rows, est)["all"]
            assert np.std(errors.means, ddof=1) == pytest.approx(errors.mean)
            estimates.append(with_error(klom(o, u, est).mean(), errors.mean, 40))
            draws.append(errors.means)
        found.append(drawn_difference(*estimates, draws) if paired else apart(*estimates))
    values = np.array([d.value for d in found])
    hold = [low <= values.mean() <= high for low, high in (d.interval() for d in found)]
    assert np.mean(hold) > 0.9
    assert 0.85 < np.mean([d.se for d in found]) / values.std() < 1.5
    assert all(d.draws == DRAWS for d in found)


def test_a_result_does_not_differ_from_itself():
    (now, _) = pair(np.random.default_rng(4), 10, ALL)
    x = jackknife(*now)
    same = excess_difference(x, x, ALL)
    assert (same.value, same.se, two_sided_p(same)) == (0, 0, 1)
    assert Comparison(x.value, x.value, same, ALL).change == "no difference"
    assert two_sided_p(Estimate(0.1, 0.0, 10)) == 0
    assert Comparison(0.1, 0.2, Estimate(0.1, 0.0, 10), ALL).change == "worse"


@pytest.mark.parametrize(("models", "draws"), [(20, math.inf), (100, math.inf), (100, DRAWS)])
def test_the_smallest_change_is_seen_in_four_runs_of_five(models, draws):
    one = Estimate(0.0, 0.3, models, draws=draws)
    freedom = 1 / (1 / (models - 1) + 1 / (draws - 1))
    for confidence in (0.975, 0.95):
        away = smallest_seen(one, confidence) / one.se
        seen = 1 - stats.nct.cdf(stats.t.ppf(confidence, freedom), freedom, away)
        assert seen == pytest.approx(0.8, abs=0.012)
    assert smallest_seen(one, 0.5) == pytest.approx(0.3 * stats.norm.ppf(0.8))


@pytest.mark.parametrize("value", [-0.61, -0.59, 0.1, 0.59, 0.61])
def test_the_word_the_interval_and_p_agree(value):
    difference = Estimate(value, 0.3, 100_000)
    found = Comparison(1.0, 1.0 + value, difference, "nothing")
    sure = abs(value) > 0.3 * stats.norm.ppf(0.975)
    assert (two_sided_p(difference) < 0.05) == sure
    assert two_sided_p(difference) == pytest.approx(2 * stats.norm.sf(abs(value) / 0.3), rel=1e-3)
    assert found.change == ("no difference" if not sure else "worse" if value > 0 else "better")


def test_without_an_error_nothing_is_said():
    for difference in (Estimate(1.0, math.nan, 100), Estimate(1.0, 0.1, 1)):
        found = Comparison(1.0, 2.0, difference, "nothing")
        assert found.change is None
        assert math.isnan(found.smallest)


def test_many_differences_are_told_by_holm():
    def with_p(p):
        return Estimate(stats.norm.isf(p / 2), 1.0, 10**9)

    ps = [0.012, 0.9, 0.004, 0.03]
    assert surely_different([with_p(p) for p in ps]) == [True, False, True, False]
    assert surely_different([with_p(p) for p in (0.013, 0.013, 0.013, 0.013)]) == [False] * 4
    assert surely_different([with_p(0.001), Estimate(1.0, math.nan, 10)]) == [True, False]
    assert surely_different([]) == []
    rng, wrong = np.random.default_rng(5), 0
    for _ in range(400):
        wrong += any(surely_different([with_p(p) for p in rng.uniform(size=10)]))
    assert wrong / 400 == pytest.approx(0.05, abs=0.03)


def test_shared_sides_are_named():
    assert [paired_by(*sides) for sides in product((True, False), repeat=2)] == [*SHARED]
