"""Excess against the closed form that it estimates, and against slow versions of its parts."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from scipy.stats import skew

from klom_bench.metrics.excess import HIGHEST, Jackknife, cut, excess, mean_excess


def gaussian_kl(a, s, b, t):
    """KL(N(a, s^2) || N(b, t^2))."""
    return math.log(t / s) + (s**2 + (a - b) ** 2) / (2 * t**2) - 0.5


def slowly(o, u):
    """Of one point: each term's estimate, written out."""
    n, m = len(o), len(u)
    s, t = o.var(ddof=1), u.var(ddof=1)
    log_s = math.log(s) + math.log((n - 1) / 2) - digamma((n - 1) / 2)
    log_t = math.log(t) + math.log((m - 1) / 2) - digamma((m - 1) / 2)
    one_over_t = (m - 3) / (m - 1) / t
    squared = (o.mean() - u.mean()) ** 2 - s / n
    return (log_t - log_s + one_over_t * (s + squared) - 1 / m - 1) / 2


def draws(seed=0, n=12, m=9, points=7, shift=0.5):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (n, points)), rng.normal(shift, 1.5, (m, points))


def of_one(oracle, unlearned, reverse=False):
    o, u = (np.asarray(x, dtype=np.float64)[:, None] for x in (oracle, unlearned))
    return excess(o, u, reverse=reverse)[0]


def whole(oracle, unlearned):
    return mean_excess(oracle, unlearned, {"all": np.arange(oracle.shape[1])})["all"]


@pytest.mark.parametrize(("n", "m"), [(8, 8), (20, 6), (7, 50)])
@pytest.mark.parametrize(("a", "s", "b", "t"), [(0, 1, 0, 1), (2, 1, 1.5, 1.5), (5, 2, 5, 1.5)])
def test_is_unbiased_on_gaussian_margins(n, m, a, s, b, t):
    rng = np.random.default_rng(0)
    oracle, unlearned = rng.normal(a, s, (n, 40_000)), rng.normal(b, t, (m, 40_000))
    for reverse, truth in ((False, gaussian_kl(a, s, b, t)), (True, gaussian_kl(b, t, a, s))):
        found = excess(oracle, unlearned, reverse=reverse)
        assert found.mean() == pytest.approx(truth, abs=4 * found.std() / 200)


@pytest.mark.parametrize(("n", "m"), [(4, 4), (5, 30), (30, 5), (100, 100)])
def test_agrees_with_the_formula_written_out(n, m):
    oracle, unlearned = draws(1, n, m, 40)
    expected = [slowly(oracle[:, i], unlearned[:, i]) for i in range(40)]
    found = excess(oracle, unlearned)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.minimum(expected, HIGHEST), rtol=0, atol=1e-12)


def test_with_many_models_it_is_the_divergence_of_the_moments():
    oracle, unlearned = draws(2, 200_000, 200_000, 1)
    truth = gaussian_kl(oracle.mean(), oracle.std(), unlearned.mean(), unlearned.std())
    assert excess(oracle, unlearned)[0] == pytest.approx(truth, abs=1e-4)


class TestInvariances:
    @settings(deadline=None)
    @given(shift=st.floats(-50, 50), scale=st.sampled_from([-3.0, 0.01, 1e6, 1e-9]))
    def test_shift_and_scale_of_all_margins_change_nothing(self, shift, scale):
        oracle, unlearned = draws()
        for reverse in (False, True):
            found = excess((oracle + shift) * scale, (unlearned + shift) * scale, reverse=reverse)
            expected = excess(oracle, unlearned, reverse=reverse)
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)

    def test_the_order_of_members_changes_nothing(self):
        oracle, unlearned = draws()
        found = excess(oracle[::-1], np.roll(unlearned, 3, axis=0))
        np.testing.assert_allclose(found, excess(oracle, unlearned), atol=1e-12)

    def test_points_are_taken_one_by_one(self):
        oracle, unlearned = draws(3, 5, 5, 20_000)
        order = np.random.default_rng(0).permutation(20_000)
        expected = excess(oracle, unlearned)
        np.testing.assert_array_equal(
            excess(oracle[:, order], unlearned[:, order]), expected[order]
        )
        np.testing.assert_array_equal(excess(oracle[:, -3:], unlearned[:, -3:]), expected[-3:])

    def test_swapped_roles_give_the_reverse(self):
        oracle, unlearned = draws()
        reverse = excess(oracle, unlearned, reverse=True)
        np.testing.assert_allclose(excess(unlearned, oracle), reverse, atol=1e-12)
        assert not np.allclose(reverse, excess(oracle, unlearned))


class TestOddMargins:
    # The mean of equal numbers is not always theirs: .1 ten times.
    @pytest.mark.parametrize("number", [0.0, 3.0, 0.1, 1e300])
    @pytest.mark.parametrize("m", [10, 7])
    def test_the_same_constant_on_both_sides_is_no_divergence(self, number, m):
        for reverse in (False, True):
            assert of_one([number] * 10, [number] * m, reverse) == 0

    @pytest.mark.parametrize(
        ("oracle", "unlearned"),
        [
            ([0.1] * 10, [0.2] * 10),
            ([0.1] * 10, np.linspace(0, 1, 10)),
            (np.linspace(0, 1, 10), [0.5] * 10),
            (np.linspace(-1e-5, 1e-5, 10), np.linspace(-1, 1, 10)),
            (np.linspace(0, 1, 10), np.linspace(1e9, 1e9 + 1, 10)),
        ],
    )
    def test_a_collapsed_side_or_a_huge_gap_counts_the_most(self, oracle, unlearned):
        for reverse in (False, True):
            assert of_one(oracle, unlearned, reverse) == HIGHEST

    def test_identical_sides_lie_below_0(self):
        oracle, _ = draws(n=20)
        copies = (19 - 2) / 19 * (1 - 1 / 20) - 1 / 20 - 1
        np.testing.assert_allclose(excess(oracle, oracle), copies / 2, atol=1e-12)

    def test_one_ruined_member_counts_finitely(self):
        oracle, unlearned = draws()
        unlearned[2] = 1e30
        np.testing.assert_array_equal(excess(oracle, unlearned, reverse=True), HIGHEST)
        assert np.all(excess(oracle, unlearned) <= HIGHEST)

    def test_float32_margins_of_1e30_are_as_small_ones(self):
        oracle, unlearned = (np.float32(x) for x in draws())
        huge = np.float32(2.0**100)
        with np.errstate(all="raise"):
            found = excess(oracle * huge, unlearned * huge)
        np.testing.assert_allclose(found, excess(oracle, unlearned), rtol=1e-12)

    def test_whole_numbers(self):
        oracle, unlearned = (np.rint(x * 10).astype(np.int64) for x in draws())
        found = excess(oracle, unlearned)
        np.testing.assert_allclose(found, excess(oracle * 1.0, unlearned * 1.0), rtol=1e-12)


class TestJackknife:
    @pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 9), (12, 6)])
    def test_is_the_mean_with_each_model_left_out(self, n, m):
        oracle, unlearned = draws(4, n, m)
        both = whole(oracle, unlearned)
        for reverse, found in ((False, both.forward), (True, both.reverse)):
            by_oracle = [
                excess(np.delete(oracle, i, 0), unlearned, reverse=reverse).mean() for i in range(n)
            ]
            by_unlearned = [
                excess(oracle, np.delete(unlearned, i, 0), reverse=reverse).mean() for i in range(m)
            ]
            assert found.value == pytest.approx(excess(oracle, unlearned, reverse=reverse).mean())
            np.testing.assert_allclose(found.without_oracle, by_oracle, atol=1e-10)
            np.testing.assert_allclose(found.without_unlearned, by_unlearned, atol=1e-10)

    @pytest.mark.parametrize("far", [30.0, 1e6, 1e10, 1e30, -1e30])
    @pytest.mark.parametrize("rest", [1.0, 0.0])
    def test_without_a_ruined_model_the_others_count_as_they_are(self, far, rest):
        oracle, unlearned = draws(5, 10, 10, 4)
        unlearned = np.float32(unlearned * rest + 0.1)
        unlearned[3, :2], unlearned[6, 1:3] = far, -far
        found = whole(oracle, unlearned).forward.without_unlearned
        expected = [excess(oracle, np.delete(unlearned, i, 0)).mean() for i in range(10)]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        mirrored = whole(unlearned, oracle).reverse.without_oracle
        np.testing.assert_allclose(mirrored, expected, rtol=1e-5)

    def test_one_ruined_model_leaves_nothing_sure(self):
        oracle, unlearned = draws(6, 20, 20, 3, shift=0)
        unlearned[0] = 1e30
        estimate = whole(oracle, unlearned).reverse.estimate
        assert estimate.value == pytest.approx(HIGHEST)
        assert not estimate.surely_above(0.5)

    def test_its_error_is_that_of_a_mean_where_the_statistic_is_a_mean(self):
        x, y = np.random.default_rng(7).normal(size=30), np.arange(8.0)
        left_out = [np.array([np.delete(z, i).mean() for i in range(len(z))]) for z in (x, y)]
        found = Jackknife(x.mean() - y.mean(), left_out[0], -left_out[1]).estimate
        assert found.se == pytest.approx(math.sqrt(x.var(ddof=1) / 30 + y.var(ddof=1) / 8))
        assert (found.value, found.models) == (x.mean() - y.mean(), 8)

    def test_its_skewness_is_that_of_a_mean_where_the_statistic_is_a_mean(self):
        x = np.random.default_rng(7).exponential(size=30)
        left_out, same = np.array([np.delete(x, i).mean() for i in range(30)]), np.ones(30)
        expected = skew(x) / math.sqrt(30)
        for sides in ((left_out, same), (same, left_out)):
            assert Jackknife(x.mean(), *sides).estimate.skew == pytest.approx(expected)
        # Of a difference of two such means the skewness is none: their third moments cancel.
        assert Jackknife(0.0, left_out, -left_out).estimate.skew == pytest.approx(0, abs=1e-9)
        assert Jackknife(0.0, same, same).estimate.skew == 0

    def test_a_member_that_went_wrong_skews_upward(self):
        oracle, unlearned = draws(13, 40, 40)
        assert abs(whole(oracle, unlearned).forward.estimate.skew) < 0.3
        unlearned[5] += 8
        assert whole(oracle, unlearned).forward.estimate.skew > 0.5

    def test_its_error_is_the_spread_of_repeats(self):
        repeats = [whole(*draws(seed, 40, 40, 10)).forward.estimate for seed in range(400)]
        spread = np.std([e.value for e in repeats])
        assert np.mean([e.se for e in repeats]) == pytest.approx(spread, rel=4 / math.sqrt(800))

    def test_differences_and_multiples_are_paired(self):
        oracle, unlearned = draws()
        other = unlearned + np.random.default_rng(8).normal(0, 0.01, unlearned.shape)
        mine, theirs = whole(oracle, unlearned).forward, whole(oracle, other).forward
        difference = (mine - theirs * 2).estimate
        assert difference.value == pytest.approx(mine.value - 2 * theirs.value)
        assert (mine - theirs).estimate.se < 0.1 * mine.estimate.se
        assert (mine * -3).estimate.se == pytest.approx(3 * mine.estimate.se)
        assert (mine - mine).estimate.se == 0

    def test_splits_are_the_columns_named(self):
        oracle, unlearned = draws(9, 12, 12, 30)
        splits = {"forget": np.array([3]), "val": np.arange(10, 30), "none": np.arange(0)}
        found = mean_excess(oracle, unlearned, splits)
        scores = excess(oracle, unlearned)
        assert found["forget"].forward.value == pytest.approx(scores[3])
        assert found["val"].forward.value == pytest.approx(scores[10:].mean())
        assert [*found] == ["forget", "val", "none"]

    @pytest.mark.filterwarnings("error")
    def test_a_split_without_points_is_nan_and_never_sure(self):
        oracle, unlearned = draws()
        both = mean_excess(oracle, unlearned, {"none": np.arange(0)})["none"]
        for way in (both.forward, both.reverse):
            assert math.isnan(way.estimate.value)
            assert not way.estimate.surely_above(-1e9)
            assert not way.estimate.surely_below(1e9)

    def test_chunks_do_not_show(self):
        oracle, unlearned = draws(10, 6, 5, 12_000)
        both = whole(oracle, unlearned)
        assert both.forward.value == pytest.approx(excess(oracle, unlearned).mean(), abs=1e-12)
        without = excess(oracle[1:], unlearned).mean()
        assert both.forward.without_oracle[0] == pytest.approx(without, abs=1e-10)


class TestCut:
    def test_leaves_what_lies_within_either_side(self):
        oracle, unlearned = draws(11, 50, 50, 4, shift=30)
        for before, after in zip((oracle, unlearned), cut(oracle, unlearned, 6), strict=True):
            np.testing.assert_array_equal(before, after)

    def test_moves_what_is_far_out_to_three_robust_standard_deviations(self):
        oracle = np.arange(-5.0, 6.0)[:, None]
        unlearned = np.array([0.0] * 9 + [1e30, -1e30])[:, None]
        same, moved = cut(oracle, unlearned)
        np.testing.assert_array_equal(same, oracle)
        sd = 3 / 0.6744897501960817  # a Gaussian's median absolute deviation is .674 sd
        assert moved[9:, 0] == pytest.approx([3 * sd, -3 * sd], rel=1e-4)

    def test_what_heavy_tails_add_to_a_perfect_unlearner_goes_away(self):
        draw = np.random.default_rng(12).standard_t
        oracle, unlearned = draw(3, (100, 2000)), draw(3, (100, 2000))
        plain, without = excess(oracle, unlearned), excess(*cut(oracle, unlearned))
        assert plain.mean() > 0.06
        assert without.mean() == pytest.approx(0.004, abs=4 * without.std() / math.sqrt(2000))
