"""Permutation tests against every labelling there is, and what each of them sees."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.metrics.permutation import Retrained, permuted_klom, retrained
from klom_bench.metrics.summary import STATISTICS

DEFAULT = ESTIMATORS["default"]


def energy_distance(x, y):
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


def standardised(x):
    sd = x.std(0)
    return (x - x.mean(0))[:, sd > 0] / sd[sd > 0]


def labellings(n, models):
    for called_oracles in combinations(range(models), n):
        rest = [i for i in range(models) if i not in called_oracles]
        yield list(called_oracles), rest


def shares_as_large(values):
    values = np.array(values)
    return np.array([(values >= v - 1e-9).mean() for v in values])


def slow_energy(oracle, unlearned):
    """p of the true labelling, which comes first, and of all others."""
    z = standardised(np.concatenate([oracle, unlearned]).astype(np.float64))
    every = [energy_distance(z[a], z[b]) for a, b in labellings(len(oracle), len(z))]
    return shares_as_large(every)


def slow_outline(oracle, unlearned):
    z = standardised(np.concatenate([oracle, unlearned]).astype(np.float64))
    each = np.stack([z.mean(1), z.std(1)], 1)
    return slow_energy(each[: len(oracle)], each[len(oracle) :])


def whole(oracle, unlearned, permutations=999):
    return retrained(oracle, unlearned, {"all": np.arange(oracle.shape[1])}, permutations)


def monte_carlo(p, draws):
    return 4 * np.sqrt(p * (1 - p) / draws) + 1 / draws


class TestRetrained:
    @pytest.mark.parametrize(("n", "m", "points"), [(5, 5, 6), (6, 3, 2), (3, 6, 5000), (4, 5, 1)])
    @pytest.mark.parametrize("shift", [0.0, 0.7])
    def test_p_is_the_share_of_labellings_as_far_apart(self, n, m, points, shift):
        rng = np.random.default_rng(points)
        common = rng.normal(size=(n + m, 1))
        x = np.float32(common + rng.normal(size=(n + m, points)) * np.arange(1, points + 1))
        x[n:] += shift * np.arange(1, points + 1)
        x[n:] *= 1 + shift
        found = whole(x[:n], x[n:], 9999)
        for p, slow in ((found.energy, slow_energy), (found.outline, slow_outline)):
            if slow is slow_outline and points == 1:
                continue  # one point has no spread
            truth = slow(x[:n], x[n:])[0]
            assert p["all"] == pytest.approx(truth, abs=monte_carlo(truth, 9999))

    def test_p_of_all_splits_is_that_of_their_smallest(self):
        rng = np.random.default_rng(3)
        oracle, unlearned = rng.normal(size=(5, 9)), rng.normal(size=(4, 9))
        unlearned[:, :3] += 1
        splits = {"forget": np.arange(3), "retain": np.arange(3, 9), "none": np.arange(0)}
        found = retrained(oracle, unlearned, splits, 9999)
        of_each = [
            slow_energy(oracle[:, r], unlearned[:, r]) for r in (splits["forget"], splits["retain"])
        ]
        least = np.min(of_each, axis=0)
        truth = (least <= least[0] + 1e-12).mean()
        # The p-values that it is made of are drawn, too.
        assert found.p == pytest.approx(truth, abs=3 * monte_carlo(truth, 9999))
        assert [*found.energy] == [*found.outline] == ["forget", "retain"]
        assert found.p > min(found.energy.values())

    def test_says_no_to_retrained_models_as_often_as_said(self):
        rng = np.random.default_rng(4)
        runs, splits = 500, {"a": np.arange(8), "b": np.arange(8, 16)}
        found = []
        for _ in range(runs):
            # Points of a model move together, and tails are heavy.
            x = rng.standard_t(3, (2, 8, 16)) + rng.normal(size=(2, 8, 1))
            test = retrained(x[0], x[1], splits, 39)
            found.append([test.p, test.energy["a"], test.outline["b"]])
        # With 39 permutations p <= .1 has probability .1 exactly, but for ties of the smallest.
        level = (np.array(found) <= 0.1).mean(0)
        np.testing.assert_allclose(level[1:], 0.1, atol=4 * np.sqrt(0.09 / runs))
        assert level[0] <= 0.1 + 4 * np.sqrt(0.09 / runs)

    def test_each_test_sees_its_own(self):
        rng = np.random.default_rng(5)
        oracle, same = rng.normal(size=(2, 30, 40))
        together = np.repeat(rng.normal(size=(30, 1)), 40, axis=1)
        noisy = same + rng.normal(0, 0.6, same.shape)
        assert whole(oracle, same).plausible
        assert whole(oracle, same + 0.5).energy["all"] < 0.01
        assert whole(oracle, same * 0.3).energy["all"] < 0.01
        assert whole(oracle, together).energy["all"] < 0.01
        found = whole(oracle, noisy)
        assert found.outline["all"] < 0.01
        assert not found.plausible

    def test_units_of_a_point_change_nothing(self):
        rng = np.random.default_rng(6)
        oracle, unlearned = rng.normal(size=(10, 6)), rng.normal(0.4, 1, (8, 6))
        units, order = 10.0 ** np.arange(-3, 3), rng.permutation(6)
        other = [(x * units - 7 * units)[:, order] for x in (oracle, unlearned)]
        assert whole(*other) == whole(oracle, unlearned)

    def test_splits_share_their_permutations_and_repeat(self):
        rng = np.random.default_rng(7)
        oracle, unlearned = rng.normal(size=(10, 6)), rng.normal(0.4, 1, (8, 6))
        twice = retrained(oracle, unlearned, {"a": np.arange(6), "b": np.arange(6)})
        assert twice.p == twice.energy["a"] == twice.energy["b"] == whole(oracle, unlearned).p

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_constant_margins_say_nothing(self, dtype):
        constant = np.full((5, 3), 7.3).astype(dtype)
        assert whole(constant, constant[:4]) == Retrained(1.0, {"all": 1.0}, {"all": 1.0})
        rng = np.random.default_rng(8)
        oracle, unlearned = rng.normal(0, 9, (9, 4)), rng.normal(6, 9, (8, 4))
        pair = [x.astype(dtype) for x in (oracle, unlearned)]
        beside = [np.c_[x, np.full(len(x), 7.3, dtype)] for x in pair]
        assert whole(*beside).energy["all"] == pytest.approx(whole(*pair).energy["all"], abs=0.004)

    def test_copies_of_the_oracles_are_no_further_than_any_others(self):
        oracle = np.random.default_rng(9).normal(size=(9, 5))
        assert whole(oracle, oracle).energy["all"] > 0.99

    @pytest.mark.filterwarnings("error")
    def test_ruined_members_are_seen_however_far(self):
        oracle, unlearned = np.float32(np.random.default_rng(10).normal(size=(2, 12, 5)))
        unlearned[:6] = 1e30
        assert whole(oracle, unlearned).energy["all"] < 0.05

    @pytest.mark.parametrize("splits", [{}, {"none": np.arange(0)}])
    def test_without_points_nothing_speaks_against(self, splits):
        found = retrained(np.zeros((5, 2)), np.ones((5, 2)), splits)
        assert found == Retrained(1.0, {}, {})
        assert found.plausible

    @pytest.mark.parametrize(
        ("energy", "outline", "plausible"),
        [(0.051, 0.051, True), (0.05, 1, False), (1, 0.05, False), (1, 1, True)],
    )
    def test_plausible_is_what_no_test_of_any_split_denies(self, energy, outline, plausible):
        # p of all splits together is no test of its own here.
        found = Retrained(0.01, {"a": 1.0, "b": energy}, {"a": outline, "b": 1.0})
        assert found.plausible is plausible


class TestPermutedKlom:
    @pytest.mark.parametrize("name", ESTIMATORS)
    @pytest.mark.parametrize(("n", "m"), [(4, 4), (6, 2), (2, 5)])
    def test_draws_from_every_labelling_alike(self, name, n, m):
        rng = np.random.default_rng(n)
        pool = np.float32(rng.normal(size=(n + m, 3)) * rng.normal(2, 1, (n + m, 1)))
        found = permuted_klom(pool[:n], pool[n:], ESTIMATORS[name])
        ways = [
            klom_and_reverse(pool[a], pool[b], ESTIMATORS[name]) for a, b in labellings(n, n + m)
        ]
        for reverse in (False, True):
            scores = np.stack([both[reverse] for both in ways])
            slow = [scores.mean(1), *np.percentile(scores, [50, 95, 99], axis=1)]
            for statistic, every in zip(STATISTICS, slow, strict=True):
                drawn = found[reverse][statistic]
                assert drawn.shape == (200,)
                away = np.abs(drawn[:, None] - every).min(1)
                np.testing.assert_allclose(away, 0, atol=1e-9)
                error = every.std() / np.sqrt(200)
                assert drawn.mean() == pytest.approx(every.mean(), abs=4 * error + 1e-9)

    def test_what_a_bad_method_does_is_not_seen_in_it(self):
        rng = np.random.default_rng(1)
        oracle, good = rng.normal(size=(2, 60, 100))
        null = permuted_klom(oracle, good, DEFAULT)[False]["mean"]
        beside_bad = permuted_klom(oracle, good + 0.5, DEFAULT)[False]["mean"]
        observed = klom_and_reverse(oracle, good + 0.5)[0].mean()
        assert null.min() < klom_and_reverse(oracle, good)[0].mean() < null.max()
        assert observed > beside_bad.max()

    def test_of_many_points_some_stand_for_all(self):
        oracle, unlearned = np.float32(np.random.default_rng(2).normal(size=(2, 4, 10_000)))
        some = slice(8000, None)
        moving = permuted_klom(oracle[:, some], unlearned[:, some], DEFAULT)[False]["mean"].mean()
        oracle[:, :8000] = unlearned[:, :8000] = 0
        found = permuted_klom(oracle, unlearned, DEFAULT)[False]["mean"].mean()
        # A share of .2, known to sqrt(.2 * .8 * .5 / 5000) where half of all points are drawn.
        assert found / moving == pytest.approx(0.2, abs=4 * 0.004)

    def test_repeats_give_the_same(self):
        oracle, unlearned = np.random.default_rng(3).normal(size=(2, 5, 4))
        first, second = (permuted_klom(oracle, unlearned, DEFAULT)[True]["p95"] for _ in range(2))
        np.testing.assert_array_equal(first, second)

    def test_whole_numbers_and_margins_of_1e30(self):
        pool = np.random.default_rng(4).integers(-99, 99, (12, 4))
        expected = permuted_klom(pool[:6], pool[6:], DEFAULT)[False]["mean"]
        huge = np.float32(pool) * np.float32(2.0**93)
        found = permuted_klom(huge[:6], huge[6:], DEFAULT)[False]["mean"]
        np.testing.assert_allclose(found, expected, atol=1e-12)

    @pytest.mark.filterwarnings("error")
    def test_without_points_all_are_nan(self):
        found = permuted_klom(np.zeros((5, 0)), np.zeros((4, 0)), DEFAULT)
        for statistics in found.values():
            assert [*statistics] == [*STATISTICS]
            assert all(np.isnan(values).all() for values in statistics.values())
