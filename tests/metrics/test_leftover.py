"""What is left of the mean shift: against truth on known laws, and against a slow version."""

import math

import numpy as np
import pytest

from klom_bench.metrics.leftover import Leftover, leftover


def made(
    seed=0, m=30, n=30, points=40, left=0.4, shift=2.0, together=0.9, shared=0.0, beside=0.0, sd=1.0
):
    """Oracles, originals that are `shift` away, unlearned models with `left` of it. together: the
    correlation of original i with unlearned i. shared: that of any two points of a model. beside:
    how far off the line, across it."""
    rng = np.random.default_rng(seed)
    scale = np.random.default_rng(1).uniform(0.3, 5, points)
    line = shift * np.random.default_rng(2).standard_normal(points)
    across = np.random.default_rng(3).standard_normal(points)
    across -= line * (line @ across) / (line @ line + 1e-300)
    across *= beside / math.sqrt((across**2).mean())

    def noise(count):
        own, of_model = rng.standard_normal((count, points)), rng.standard_normal((count, 1))
        return math.sqrt(1 - shared) * own + math.sqrt(shared) * of_model

    before = noise(n)
    after = together * before + math.sqrt(1 - together**2) * noise(n)
    margins = (noise(m), line + before, left * line + across + sd * after)
    return tuple(7 + scale * x for x in margins)


def slowly(oracle, original, unlearned):
    """The slope, in per cent, point by point."""
    top = bottom = 0.0
    for o, x, u in zip(oracle.T, original.T, unlearned.T, strict=True):
        s, ((t, c), _) = o.var(ddof=1), np.cov(x, u)
        a, b = x.mean() - o.mean(), u.mean() - o.mean()
        weight = 1 / ((s + t) / 2)
        more_s, more_t = 1 + 2 / (len(o) - 1) * s / (s + t), 1 + 2 / (len(x) - 1) * t / (s + t)
        top += weight * (a * b - more_s * s / len(o) - more_t * c / len(x))
        bottom += weight * (a * a - more_s * s / len(o) - more_t * t / len(x))
    return 100 * top / bottom


def spread_of(left_out):
    n = len(left_out)
    return (n - 1) / n * ((left_out - np.mean(left_out)) ** 2).sum()


@pytest.mark.parametrize(("m", "n"), [(5, 5), (6, 11), (13, 7)])
def test_agrees_with_the_formula_written_out_and_each_model_left_out(m, n):
    o, x, u = made(3, m, n, points=9, shift=4)
    by_oracle = [slowly(np.delete(o, i, 0), x, u) for i in range(m)]
    by_pair = [slowly(o, np.delete(x, i, 0), np.delete(u, i, 0)) for i in range(n)]
    found = leftover(o, x, u).estimate
    assert found.value == pytest.approx(slowly(o, x, u), rel=1e-10)
    assert found.se == pytest.approx(math.sqrt(spread_of(by_oracle) + spread_of(by_pair)), rel=1e-9)
    assert found.models == min(m, n)


@pytest.mark.parametrize("together", [0.99, 0.0, -0.9])
@pytest.mark.parametrize("left", [0.0, 0.5])
def test_what_pairs_have_in_common_is_taken_off(together, left):
    """The shift is so small that noise is half of its square; many points, so chance is little."""
    runs = [
        made(seed, 8, 8, 2000, left, shift=0.5, together=together, shared=0.02)
        for seed in range(40)
    ]
    found = np.array([leftover(*run).estimate.value for run in runs])
    error = 4 * found.std() / math.sqrt(len(runs))
    assert found.mean() == pytest.approx(100 * left, abs=error)
    rolled = [leftover(o, x, np.roll(u, 1, 0)) for o, x, u in runs]
    away = np.mean([r.estimate.value for r in rolled if r.estimate]) - 100 * left
    assert abs(away) > 10 if together else abs(away) < 2 * error


@pytest.mark.parametrize("together", [0.95, -0.5])
def test_its_interval_holds_the_truth(together):
    laws = [
        made(seed, 20, 20, 30, 0.4, shift=1.5, together=together, shared=0.25)
        for seed in range(400)
    ]
    found = [leftover(*law).estimate for law in laws]
    held = np.mean([low <= 40 <= high for low, high in (e.interval() for e in found)])
    assert 0.92 <= held <= 0.99
    spread = np.std([e.value for e in found])
    assert np.mean([e.se for e in found]) == pytest.approx(spread, rel=0.15)


class TestEnds:
    def test_doing_nothing_leaves_100_exactly(self):
        o, x, _ = made()
        found = leftover(o, x, x)
        assert (found.estimate.value, found.estimate.se, found.why) == (100, 0, None)
        assert abs(found.beside) < 1e-9

    def test_other_oracles_have_nothing_left(self):
        o, x, _ = made()
        found = leftover(o, x, made(77)[0])
        low, high = found.estimate.interval()
        assert low < 0 < high < 8
        assert not found.off_the_line

    def test_half_of_the_members_untouched_is_half(self):
        o, x, _ = made(points=200, m=60, n=60)
        mixed = np.where((np.arange(60) % 2 == 0)[:, None], x, made(78, m=60, points=200)[0])
        assert leftover(o, x, mixed).estimate.value == pytest.approx(50, abs=5)


class TestNoNumber:
    @pytest.mark.parametrize(
        ("law", "why"),
        [
            ({"sd": 1.6}, "too wide"),
            ({"beside": 0.9}, "beside the line"),
            ({"left": -0.3}, "beyond the oracles"),
            ({"left": 1.3}, "beyond the originals"),
        ],
    )
    def test_off_the_line(self, law, why):
        found = leftover(*made(**law))
        assert (found.estimate, found.why, found.off_the_line) == (None, why, True)

    @pytest.mark.parametrize(
        "law", [{"sd": 1.2}, {"beside": 0.5}, {"left": -0.03}, {"left": 1.03}, {}]
    )
    def test_near_the_line_there_is_one(self, law):
        found = leftover(*made(m=60, n=60, **law))
        low, high = found.estimate.interval()
        assert low - 2 <= 100 * law.get("left", 0.4) <= high + 2
        assert not found.off_the_line

    def test_what_is_beside_the_line_and_how_wide_it_is(self):
        found = leftover(*made(5, 200, 200, 400, beside=0.6, sd=1.3))
        assert found.beside == pytest.approx(0.36, abs=0.05)
        assert found.spread == pytest.approx(1.69, abs=0.1)

    def test_originals_that_are_oracles_have_no_line(self):
        for seed in range(20):
            found = leftover(*made(seed, shift=0))
            assert found == Leftover(None, found.beside, found.spread, "originals like oracles")
            assert not found.off_the_line

    def test_a_few_ruined_members_are_no_half_of_a_way(self):
        o, x, _ = made(m=60, n=60)
        ruined = made(79, m=60)[0]
        ruined[:6] = -40
        assert leftover(o, x, ruined).why == "too wide"

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("far", [1e6, 1e30, -3e38])
    def test_one_member_that_is_nowhere(self, far):
        o, x, u = map(np.float32, made())
        u[3] = far
        assert leftover(o, x, u).why == "too wide"

    def test_fewer_than_five_models(self):
        o, x, u = made()
        assert leftover(o[:4], x, u) is None
        assert leftover(o, x[:4], u[:4]) is None
        assert leftover(o[:5], x[:5], u[:5]) is not None


def test_shift_and_scale_of_a_point_change_nothing():
    o, x, u = made()
    rng = np.random.default_rng(0)
    scale, away = rng.choice([-3.0, 0.01, 1e6], 40), rng.normal(0, 5, 40)
    found = leftover(*((z + away) * scale for z in (o, x, u))).estimate
    expected = leftover(o, x, u).estimate
    assert (found.value, found.se) == pytest.approx((expected.value, expected.se), rel=1e-6)


def test_the_order_of_oracles_pairs_and_points_changes_nothing():
    o, x, u = made()
    order, points = np.random.default_rng(0).permutation(30), np.arange(40)[::-1]
    found = leftover(o[::-1][:, points], x[order][:, points], u[order][:, points]).estimate
    expected = leftover(o, x, u).estimate
    assert (found.value, found.se) == pytest.approx((expected.value, expected.se), rel=1e-9)


def test_chunks_do_not_show():
    o, x, u = made(m=6, n=6, points=12_000)
    assert leftover(o, x, u).estimate.value == pytest.approx(slowly(o, x, u), rel=1e-9)


@pytest.mark.filterwarnings("error")
def test_points_without_spread_count_nothing():
    o, x, u = made()
    with_them = [np.hstack([z, np.full((30, 3), c)]) for z, c in ((o, 1.0), (x, 2.0), (u, 1.5))]
    assert leftover(*with_them).estimate.value == pytest.approx(leftover(o, x, u).estimate.value)


def test_whole_numbers_and_float32():
    o, x, u = (np.rint(z * 100) for z in made())
    expected = leftover(o, x, u).estimate.value
    for kind in (np.int64, np.float32):
        found = leftover(*(z.astype(kind) for z in (o, x, u)))
        assert found.estimate.value == pytest.approx(expected, rel=1e-9)
