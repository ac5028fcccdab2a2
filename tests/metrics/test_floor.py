import numpy as np
import pytest

from klom_bench import klom
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import (
    both_ways,
    floor,
    floor_limits,
    floor_scores,
    members_needed,
)
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.metrics.summary import Summary, plain, summarise

DEFAULT, BENCH = ESTIMATORS["default"], ESTIMATORS["data_unlearning_bench"]


@pytest.mark.parametrize(
    ("n", "mean", "p95"),
    [(10, 5.6, 8.0), (20, 3.0, 5.0), (50, 0.85, 1.66), (100, 0.345, 0.69), (200, 0.146, 0.28)],
)
def test_published_estimator_has_the_known_floor(n, mean, p95):
    found = floor(BENCH, n, n)
    assert found.mean == pytest.approx(mean, rel=0.05)
    assert found.p95 == pytest.approx(p95, rel=0.07)


def test_more_oracles_lower_it():
    means = [floor(BENCH, oracles, 100).mean for oracles in (100, 200, 400)]
    assert means == pytest.approx([0.35, 0.29, 0.24], rel=0.05)


@pytest.mark.parametrize("law", ["laplace", "gumbel", "normal"])
def test_other_laws_agree(law):
    draw = getattr(np.random.default_rng(5), law)
    scores = klom(draw(size=(100, 20_000)), draw(size=(100, 20_000)))
    assert scores.mean() == pytest.approx(floor(DEFAULT, 100, 100).mean, rel=0.12)
    assert np.percentile(scores, 95) == pytest.approx(floor(DEFAULT, 100, 100).p95, rel=0.08)


def test_quantiles_hold_for_fresh_samples():
    rng = np.random.default_rng(6)
    scores = klom(rng.normal(size=(50, 20_000)), rng.normal(size=(50, 20_000))).reshape(400, 50)
    quantiles = floor_limits(DEFAULT, 50, 50, points=50)
    for statistic, values in (("mean", scores.mean(1)), ("p95", np.percentile(scores, 95, axis=1))):
        assert (values <= quantiles[statistic]).mean() == pytest.approx(0.95, abs=0.04)


def test_few_points_spread_more():
    few, many = (floor_limits(DEFAULT, 100, 100, points)["p95"] for points in (10, 1000))
    assert few > many > floor(DEFAULT, 100, 100).p95


def test_the_reverse_direction_has_a_floor_of_its_own():
    rng = np.random.default_rng(7)
    oracle, unlearned = rng.normal(size=(200, 20_000)), rng.normal(size=(50, 20_000))
    reverse = klom_and_reverse(oracle, unlearned)[1].mean()
    assert reverse == pytest.approx(floor(DEFAULT, 200, 50, reverse=True).mean, rel=0.03)
    assert reverse != pytest.approx(floor(DEFAULT, 200, 50).mean, rel=0.1)


def test_members_needed_is_enough_and_one_step_less_is_not():
    n = members_needed(DEFAULT, 50, "p95", 0.5)
    assert n is not None
    assert floor_limits(DEFAULT, n, n, 50)["p95"] <= 0.5
    assert floor_limits(DEFAULT, n * 4 // 5, n * 4 // 5, 50)["p95"] > 0.5


def test_no_n_reaches_zero():
    assert members_needed(DEFAULT, 50, "p95", 0.0) is None


def test_is_the_same_each_time_and_cannot_be_altered():
    pool = floor_scores(DEFAULT, 20, 20)
    both_ways.cache_clear()
    again = floor_scores(DEFAULT, 20, 20)
    assert again is not pool
    np.testing.assert_array_equal(pool, again)
    with pytest.raises(ValueError, match="read-only"):
        pool[0] = 0


def test_summary_is_numpys():
    scores = np.random.default_rng(0).exponential(size=999)
    assert summarise(scores) == Summary(
        scores.mean(), *(np.percentile(scores, q) for q in (50, 95, 99))
    )


def test_nan_is_null():
    assert set(summarise(np.array([1.0, np.nan])).as_json().values()) == {None}
    assert set(summarise(np.array([])).as_json().values()) == {None}
    assert plain(np.float32(0.5)) == 0.5
    assert type(plain(np.float32(0.5))) is float
