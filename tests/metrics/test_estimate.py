import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from klom_bench.metrics.estimate import Estimate, judged, models_that_settle, quantile
from klom_bench.metrics.excess import Jackknife

NAN, INF = math.nan, math.inf
values = st.floats(-10, 10)
estimates = st.builds(Estimate, values, st.floats(0, 5), st.integers(2, 300), st.floats(-3, 3))
confidences = st.floats(0.5, 0.999)


@pytest.mark.parametrize("models", [2, 5, 20, 100])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.975])
def test_quantiles_are_those_of_student(models, confidence):
    assert quantile(confidence, models) == pytest.approx(stats.t.ppf(confidence, models - 1))


@pytest.mark.parametrize(("models", "draws"), [(2, 40), (20, 40), (100, 40), (100, 2)])
def test_what_was_drawn_few_times_is_known_less_well(models, draws):
    freedom = 1 / (1 / (models - 1) + 1 / (draws - 1))
    assert quantile(0.95, models, draws) == pytest.approx(stats.t.ppf(0.95, freedom))
    assert quantile(0.95, models, draws) > quantile(0.95, models)
    assert quantile(0.95, models, 10**9) == pytest.approx(quantile(0.95, models))


def test_full_confidence_is_never_reached():
    assert quantile(1.0, 20) == INF
    assert judged(Estimate(0.1, 0.001, 20), 5.0, 1.0) == "inconclusive"
    assert models_that_settle(Estimate(0.1, 0.001, 20), 5.0, 1.0) is None


@pytest.mark.parametrize("models", [5, 30])
def test_an_interval_covers_the_mean_of_gaussian_samples(models):
    runs = 4000
    x = np.random.default_rng(0).normal(3, 2, (runs, models))
    means, errors = x.mean(1), x.std(1, ddof=1) / math.sqrt(models)
    ends = np.array([Estimate(m, s, models).interval() for m, s in zip(means, errors, strict=True)])
    covered = ((ends[:, 0] < 3) & (ends[:, 1] > 3)).mean()
    assert covered == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / runs))


def test_one_side_errs_as_often_as_said():
    runs, models = 4000, 5
    x = np.random.default_rng(1).normal(3, 2, (runs, models))
    errors = x.std(1, ddof=1) / math.sqrt(models)
    found = [Estimate(m, s, models) for m, s in zip(x.mean(1), errors, strict=True)]
    tolerance = 4 * math.sqrt(0.9 * 0.1 / runs)
    above = np.mean([e.surely_above(3, 0.9) for e in found])
    below = np.mean([e.surely_below(3, 0.9) for e in found])
    assert [above, below] == pytest.approx([0.1, 0.1], abs=tolerance)


def test_one_side_errs_as_often_as_said_by_an_error_that_was_drawn():
    runs, models, draws = 20_000, 20, 6
    rng = np.random.default_rng(2)
    x = rng.normal(3, 2, (runs, models))
    errors = x.std(1, ddof=1) / math.sqrt(models)
    drawn = errors * rng.normal(size=(draws, runs)).std(0, ddof=1)
    found = [Estimate(*of, models, draws=draws) for of in zip(x.mean(1), drawn, strict=True)]
    above, below = (
        np.mean([e.surely_above(3) for e in found]),
        np.mean([e.surely_below(3) for e in found]),
    )
    assert [above, below] == pytest.approx([0.05, 0.05], abs=0.007)
    assert np.mean([Estimate(e.value, e.se, models).surely_above(3) for e in found]) > 0.065


def test_a_two_sided_interval_is_that_of_both_sides():
    estimate = Estimate(1.0, 0.5, 10)
    low, high = estimate.interval(0.9)
    assert high - 1 == pytest.approx(stats.t.ppf(0.95, 9) * 0.5)
    assert 1 - low == pytest.approx(high - 1)


@pytest.mark.parametrize("value", [0.5, 2.0])
def test_sure_begins_where_the_error_ends(value):
    se, away = 0.1, 0.1 * stats.t.ppf(0.95, 19)
    estimate = Estimate(value, se, 20)
    assert estimate.surely_above(value - away - 1e-9)
    assert not estimate.surely_above(value - away + 1e-9)
    assert estimate.surely_below(value + away + 1e-9)
    assert not estimate.surely_below(value + away - 1e-9)


@pytest.mark.parametrize(
    ("value", "factor"),
    [(1.0, 1.0), (5.0, 1.0), (0.5, math.sqrt(2)), (0.25, 2), (0.01, 2), (0.0, 2), (-1.0, 2)],
)
def test_errors_grow_towards_the_limit_but_no_more_than_twice(value, factor):
    found = Estimate(value, 0.1, 20).at_the_limit(1.0)
    assert (found.value, found.models) == (value, 20)
    assert found.se == pytest.approx(0.1 * factor)


@pytest.mark.parametrize(
    ("value", "skew", "squared"),
    [(0.5, 0.0, 2), (0.5, 0.4, 2 + 0.4 * 5), (0.1, 0.4, 4 + 0.4 * 9), (0.5, -0.4, 2), (2, 0.4, 1)],
)
def test_errors_of_skewed_values_grow_by_how_far_the_limit_is_in_errors(value, skew, squared):
    found = Estimate(value, 0.1, 20, skew, 40).at_the_limit(1.0)
    assert found == Estimate(value, pytest.approx(0.1 * math.sqrt(squared)), 20, skew, 40)
    assert Estimate(value, 0.0, 20, skew).at_the_limit(1.0).se == 0


def test_few_large_parts_do_not_let_a_low_value_pass():
    """Means of exponential samples, judged at what they are expected to be."""
    runs, models = 4000, 40
    wrong = {"with": 0, "without": 0, "fail": 0}
    for x in np.random.default_rng(3).exponential(5, (runs, models)) + 20:
        left_out = (x.sum() - x) / (models - 1)
        estimate = Jackknife(x.mean(), np.zeros(models), left_out).estimate
        wrong["with"] += judged(estimate, 25.0) == "pass"
        wrong["without"] += judged(Estimate(estimate.value, estimate.se, models), 25.0) == "pass"
        wrong["fail"] += judged(estimate, 25.0) == "fail"
    assert wrong["without"] / runs > 0.08
    assert 0.03 < wrong["with"] / runs < 0.06
    assert wrong["fail"] / runs < 0.05


class TestJudged:
    T = stats.t.ppf(0.95, 19)

    def test_fails_by_the_error_as_it_stands(self):
        assert judged(Estimate(1 + 0.1 * self.T + 1e-9, 0.1, 20), 1.0) == "fail"
        assert judged(Estimate(1 + 0.1 * self.T - 1e-9, 0.1, 20), 1.0) == "inconclusive"

    def test_passes_by_the_error_that_it_would_have_at_the_limit(self):
        se = (1 - 0.64) / self.T / math.sqrt(1 / 0.64)
        assert judged(Estimate(0.64, se - 1e-9, 20), 1.0) == "pass"
        assert judged(Estimate(0.64, se + 1e-9, 20), 1.0) == "inconclusive"

    @pytest.mark.parametrize(("value", "word"), [(0.99, "pass"), (1.01, "fail")])
    def test_with_half_the_confidence_the_value_decides(self, value, word):
        assert judged(Estimate(value, 100.0, 5), 1.0, 0.5) == word
        assert judged(Estimate(value, 0.1, 5), 1.0) == "inconclusive"

    @pytest.mark.parametrize("confidence", [0.5, 0.95])
    def test_a_value_at_the_limit_is_neither(self, confidence):
        assert judged(Estimate(1.0, 0.0, 20), 1.0, confidence) == "inconclusive"

    @pytest.mark.parametrize("estimate", [(NAN, 0.1, 20), (0.1, NAN, 20), (0.1, 0.01, 1)])
    def test_nothing_is_sure_without_a_number_or_with_one_model(self, estimate):
        assert judged(Estimate(*estimate), 1.0) == "inconclusive"
        assert models_that_settle(Estimate(*estimate), 1.0) is None
        assert not Estimate(*estimate).surely_above(-1000.0)

    @given(estimate=estimates, limit=values, confidence=confidences, more=st.floats(0, 0.999))
    def test_what_more_confidence_decides_less_decides_too(self, estimate, limit, confidence, more):
        surer = judged(estimate, limit, confidence + more * (1 - confidence))
        assert surer in ("inconclusive", judged(estimate, limit, confidence))

    @given(estimate=estimates, limit=values, up=st.floats(0, 5))
    def test_a_higher_limit_is_never_harder(self, estimate, limit, up):
        order = ["fail", "inconclusive", "pass"]
        before, after = (order.index(judged(estimate, x)) for x in (limit, limit + up))
        assert after >= before


class TestModelsThatSettle:
    @pytest.mark.parametrize("value", [0.3, 0.8, 0.97, 1.05, 1.4])
    @pytest.mark.parametrize("skew", [0.0, 0.5])
    def test_errors_of_so_many_models_just_decide(self, value, skew):
        now = Estimate(value, 0.3, 40, skew)
        models = models_that_settle(now, 1.0)

        def at(n):
            # The quantile of the N that there is: an N to come has a smaller one, hence "about".
            less = math.sqrt(now.models / n)
            return judged(Estimate(value, now.se * less, now.models, skew * less), 1.0)

        assert models > now.models
        assert at(models + 1) == ("fail" if value > 1 else "pass")
        assert at(models - 1) == "inconclusive"

    def test_never_fewer_than_there_are(self):
        assert models_that_settle(Estimate(0.1, 1e-4, 40), 1.0) == 40

    def test_none_where_no_number_would_do(self):
        assert models_that_settle(Estimate(1.0, 0.1, 40), 1.0) is None
