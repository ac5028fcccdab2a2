"""KLOM against the slow version written from the definition, and the edge cases of the field."""

import tracemalloc

import numpy as np
import pytest
import torch
from helpers.slow_klom import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from klom_bench import klom
from klom_bench.metrics.estimators import ESTIMATORS, estimator_named
from klom_bench.metrics.klom import klom_and_reverse

CEILING = np.log(1 / 1e-5)


def slowly(oracle, unlearned, name):
    return np.array([SLOW[name](oracle[:, i], unlearned[:, i]) for i in range(oracle.shape[1])])


def samples(elements, width):
    shapes = st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 4))
    return shapes.flatmap(
        lambda s: st.tuples(
            arrays(width, (s[0], s[2]), elements=elements),
            arrays(width, (s[1], s[2]), elements=elements),
        )
    )


# On a coarse grid most samples lie exactly on an edge, and many are equal.
GRID = samples(st.integers(-6, 6).map(float), np.float32)
ANY = samples(st.floats(-300, 300, width=32), np.float32)
# Beside what float32 can hold: divided by so small a range, numbers overflow; by so large a one, they vanish.
TINY = samples(st.integers(0, 9).map(lambda k: k * 2.0**-149), np.float32)
LARGE = samples(st.integers(-9, 9).map(lambda k: k * 1e37), np.float32)
# A range of a few units in the last place: the edges of neighbouring bins coincide.
TIGHT = samples(st.integers(0, 9).map(lambda k: 100.0 + k * 2.0**-17), np.float32)


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=40, deadline=None)
@given(pair=st.one_of(GRID, ANY, TIGHT, TINY, LARGE))
def test_agrees_with_the_definition(name, pair):
    oracle, unlearned = pair
    np.testing.assert_allclose(
        klom(oracle, unlearned, name), slowly(oracle, unlearned, name), rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("name", ESTIMATORS)
def test_agrees_on_margins_as_they_are(name):
    rng = np.random.default_rng(0)
    oracle = rng.normal(5, 2, (100, 500)).astype(np.float32)
    unlearned = rng.normal(6, 3, (80, 500)).astype(np.float32)
    expected = slowly(oracle, unlearned, name)
    np.testing.assert_allclose(klom(oracle, unlearned, name), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
@settings(max_examples=40, deadline=None)
@given(pair=st.one_of(GRID, ANY, TIGHT, TINY, LARGE))
def test_torch_tensors_give_the_same(name, pair):
    scores = klom(*(torch.from_numpy(a) for a in pair), name)
    assert isinstance(scores, torch.Tensor)
    assert scores.dtype == torch.float64
    np.testing.assert_allclose(scores.numpy(), klom(*pair, name), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_reverse_swaps_the_roles_over_the_same_bins(name):
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, (50, 40)), rng.normal(1, 1, (50, 40))
    forward, reverse = klom_and_reverse(a, b, name)
    np.testing.assert_array_equal(forward, klom(a, b, name))
    if ESTIMATORS[name].span == "joint" and ESTIMATORS[name].clip_q:
        np.testing.assert_allclose(reverse, klom(b, a, name), atol=1e-12)
    assert not np.allclose(forward, reverse)


def test_chunks_do_not_show():
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, (100, 1000)), rng.normal(0, 1, (100, 1000))
    whole = klom(a, b)
    for cut in (1, 327, 328, 999):
        np.testing.assert_array_equal(
            np.r_[klom(a[:, :cut], b[:, :cut]), klom(a[:, cut:], b[:, cut:])], whole
        )


class TestDefault:
    def test_same_sample_scores_zero(self):
        a = np.random.default_rng(0).normal(size=(50, 20))
        np.testing.assert_array_equal(klom(a, a), 0)

    def test_disjoint_samples_score_the_ceiling(self):
        low, high = np.zeros((10, 1)), np.ones((10, 1))
        assert klom(low, high)[0] == pytest.approx(CEILING, abs=1e-9)
        assert klom(high, low)[0] == pytest.approx(CEILING, abs=1e-9)

    @given(
        pair=samples(st.floats(-20, 20, width=32), np.float32),
        far=st.sampled_from([-1e4, -100.0, 100.0, 1e4]),
        data=st.data(),
    )
    def test_a_member_moved_far_out_never_lowers_the_score(self, pair, far, data):
        oracle, unlearned = pair
        moved = unlearned.copy()
        moved[data.draw(st.integers(0, len(moved) - 1))] = far
        assert np.all(klom(oracle, moved) >= klom(oracle, unlearned) - 1e-12)

    def test_one_diverged_member_hides_nothing(self):
        rng = np.random.default_rng(3)
        oracle, unlearned = rng.normal(0, 1, (100, 200)), rng.normal(3, 1, (100, 200))
        diverged = unlearned.copy()
        diverged[0] = 100.0
        assert klom(oracle, diverged).mean() >= klom(oracle, unlearned).mean()
        published = klom(oracle, diverged, "data_unlearning_bench").mean()
        assert published < 0.3 * klom(oracle, unlearned, "data_unlearning_bench").mean()

    def test_saturated_margins_are_far_from_perfect(self):
        oracle = np.random.default_rng(4).normal(5, 1, (100, 1))
        saturated = np.full((100, 1), 250.0)
        assert klom(oracle, saturated)[0] == pytest.approx(CEILING, abs=3)
        assert klom(saturated, oracle)[0] == pytest.approx(CEILING, abs=1e-9)


class TestPublishedQuirks:
    """The table of published edge cases: kept in the presets, so that numbers can be compared."""

    def case(self, name, p, q):
        p, q = np.float32(p)[:, None], np.float32(q)[:, None]
        pair = (p, q) if ESTIMATORS[name].direction == "oracle || unlearned" else (q, p)
        return klom(*pair, name)[0]

    def test_disjoint_with_p_below(self):
        assert self.case("data_unlearning_bench", [0] * 9, [1] * 9) == 0
        assert self.case("easydub", [0] * 9, [1] * 9) == pytest.approx(CEILING)

    def test_disjoint_with_p_above(self):
        assert np.isnan(self.case("data_unlearning_bench", [1] * 9, [0] * 9))
        assert self.case("easydub", [1] * 9, [0] * 9) == 0

    def test_saturation_looks_perfect(self):
        far, near = [150.0] * 9, [5.0, 6.0, 7.0] * 3
        assert self.case("easydub", far, near) == 0

    def test_ceilings(self):
        p, q = [0.0] * 9 + [0.001] * 9, [5.0] * 9 + [10.0] * 9
        assert self.case("data_unlearning_bench", p, q) == pytest.approx(
            np.log((1 + 1e-5) / 1e-5), abs=1e-9
        )
        assert self.case("easydub", p, q) == pytest.approx(CEILING, abs=1e-9)

    def test_equal_samples(self):
        assert self.case("data_unlearning_bench", [3] * 5, [3] * 5) == 0
        assert self.case("easydub", [3] * 5, [3] * 5) == 0
        assert np.isnan(self.case("attribute_to_delete", [3] * 5, [3] * 5))


class TestRefusals:
    @pytest.mark.parametrize("name", ESTIMATORS)
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_names_member_and_point(self, name, value):
        oracle, unlearned = np.zeros((5, 700)), np.zeros((4, 700))
        unlearned[3, 611] = value
        with pytest.raises(ValueError, match=rf"unlearned .* member 3 at point 611 is {value}"):
            klom(oracle, unlearned, name)
        with pytest.raises(ValueError, match=r"oracle .* member 3 at point 611"):
            klom(unlearned, oracle, name)

    def test_shapes(self):
        with pytest.raises(ValueError, match="5 points, unlearned ones 6"):
            klom(np.zeros((3, 5)), np.zeros((3, 6)))
        with pytest.raises(ValueError, match=r"must be \[members, points\]"):
            klom(np.zeros(5), np.zeros((3, 5)))

    @pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "default"])
    def test_margins_beyond_float32(self, name):
        huge = np.array([[1e150], [2e150]])
        with pytest.raises(ValueError, match="beyond the range of float32"):
            klom(huge, huge, name)
        assert klom(huge, huge)[0] == 0

    def test_no_points(self):
        with pytest.raises(ValueError, match="no points to score"):
            klom(np.zeros((3, 0)), np.zeros((3, 0)))

    def test_lists(self):
        with pytest.raises(TypeError, match="not a list"):
            klom([[1.0, 2.0]], np.zeros((3, 2)))

    def test_mixed_kinds(self):
        with pytest.raises(TypeError, match="not one of each"):
            klom(np.zeros((3, 5)), torch.zeros(3, 5))

    def test_unknown_estimator(self):
        with pytest.raises(ValueError, match="did you mean easydub"):
            estimator_named("easydubb")


def test_memory_stays_small():
    oracle = np.random.default_rng(0).normal(size=(100, 60_000)).astype(np.float32)
    tracemalloc.start()
    klom(oracle, oracle[:, ::-1])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200e6


class TestTheEndsOfFloatingPoint:
    """Multiplied by a power of two, every margin keeps its bin."""

    rng = np.random.default_rng(3)
    # Whole numbers, so that they are exact as multiples of the smallest number there is.
    oracle = rng.integers(-600, 600, (40, 6)).astype(np.float64)
    unlearned = rng.integers(-900, 900, (30, 6)).astype(np.float64)
    expected = klom(oracle, unlearned)

    @pytest.mark.parametrize("power", [-1074, -1073, -1040, -1020, -1000, -800, 0, 900, 1012, 1014])
    @pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
    def test_powers_of_two_change_nothing(self, power, kind):
        with np.errstate(all="raise", under="ignore"):
            scaled = [kind(np.ldexp(m, power)) for m in (self.oracle, self.unlearned)]
            found = np.asarray(klom(*scaled))
        np.testing.assert_allclose(found, self.expected, rtol=0, atol=1e-12)

    def test_the_widest_range_there_is(self):
        most = np.finfo(np.float64).max
        oracle = np.array([[-most], [-most / 3], [0.0], [most / 7], [most]])
        assert klom(oracle, oracle)[0] == 0
        assert klom(np.array([[-1.7e308], [1.7e308]]), np.zeros((5, 1)))[0] > 5
        assert np.isfinite(klom(np.array([[-1e308], [0.0]]), np.full((5, 1), 1.7e308))[0])

    def test_the_smallest_numbers_stay_below_the_ceiling(self):
        oracle = np.array([[9.9e-323], [-1.3e-322]])
        unlearned = np.array([[5e-324], [0.0], [-5e-324], [1e-323], [4e-323]])
        assert klom(oracle, unlearned)[0] < 11.52
        assert klom(oracle, oracle)[0] == 0

    def test_a_range_beyond_float32_where_margins_are_not_clipped(self):
        huge = self.oracle.astype(np.float32) / 600 * np.float32(3e38)
        with pytest.raises(ValueError, match="beyond the range of float32"):
            klom(huge, huge, "attribute_to_delete")

    @pytest.mark.skipif(np.finfo(np.longdouble).max <= 1e308, reason="longdouble is float64 here")
    def test_more_than_float64_holds(self):
        huge = self.oracle.astype(np.longdouble) * np.longdouble("1e400")
        with pytest.raises(ValueError, match="beyond the range of float64"):
            klom(huge, huge)

    @pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "default"])
    def test_published_codes_with_denormals(self, name):
        oracle, unlearned = (
            np.float32(m) * np.float32(1e-45) for m in (self.oracle, self.unlearned)
        )
        slow = [SLOW[name](oracle[:, i], unlearned[:, i]) for i in range(6)]
        np.testing.assert_allclose(klom(oracle, unlearned, name), slow, rtol=0, atol=1e-9)


class TestWhatIsNoPlainNumber:
    good = np.random.default_rng(0).normal(size=(10, 4))

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (np.ma.masked_array(good, mask=good > 1), "a masked array; leave masked members out"),
            (np.ma.masked_array(good), "a masked array"),
            (good + 1j, "real numbers are expected, not complex128"),
            (good > 0, "real numbers are expected, not bool"),
            (good.astype(object), "real numbers are expected, not object"),
            (good.astype(str), "real numbers are expected, not <U"),
        ],
    )
    def test_is_refused_on_either_side(self, bad, message):
        for name in ESTIMATORS:
            with pytest.raises(ValueError, match=f"^oracle margins: {message}"):
                klom(bad, self.good, name)
            with pytest.raises(ValueError, match=f"^unlearned margins: {message}"):
                klom(self.good, bad, name)

    @pytest.mark.parametrize("convert", [lambda t: t + 0j, lambda t: t > 0])
    def test_tensors(self, convert):
        tensor = torch.from_numpy(self.good)
        with pytest.raises(ValueError, match="unlearned margins: real numbers are expected"):
            klom(tensor, convert(tensor))

    @pytest.mark.filterwarnings("ignore")
    def test_matrices_and_sparse_tensors(self):
        with pytest.raises(ValueError, match="oracle margins: a matrix"):
            klom(np.matrix(self.good), self.good)
        with pytest.raises(ValueError, match="oracle margins: a dense tensor"):
            klom(torch.from_numpy(self.good).to_sparse(), torch.from_numpy(self.good))

    def test_no_estimator(self):
        with pytest.raises(TypeError, match="estimator: a name or an Estimator is expected"):
            klom(self.good, self.good, None)
