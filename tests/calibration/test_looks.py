"""What the part `looks` counts with."""

import numpy as np
import pytest
from calibration import looks
from calibration.pool import Pool
from calibration.sources import REAL, Real, Simulated, seeded

from klom_bench.metrics.excess import mean_excess


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """A Gaussian pool whose originals lie two standard deviations away, half as wide."""
    rng = np.random.default_rng(0)
    oracles, originals = rng.standard_normal((2, 4000, 8))
    pool = Pool(oracles, {"do_nothing": originals / 2 + 2}, {"forget": np.arange(8)})
    monkeypatch.setitem(REAL, "digits", pool)


def test_models_of_a_look_are_the_first_of_the_next():
    case = Simulated("skewed", 2.0)
    (found,) = looks.excesses(case, 40, range(1), (20, 40))
    oracle, unlearned = case.draw(seeded("looks", case, 0), 40)
    for n, estimate in zip((20, 40), looks.estimates(found, (20, 40)), strict=True):
        expected = mean_excess(oracle[:n], unlearned[:n], case.splits)["forget"].forward.estimate
        assert estimate == expected


def test_the_own_value_is_the_divergence_of_the_laws():
    assert looks.own(Real("retrain")) == 0
    far = np.log(0.5) + (1 + 2**2) / 2 / 0.5**2 - 0.5
    assert looks.own(Real("do_nothing")) == pytest.approx(far, rel=0.05)
    case = Simulated("Gaussian", 2.0)
    found = looks.excesses(case, 100, range(40), (20, 100))
    assert looks.own(case) == pytest.approx(looks.expected(found), rel=0.1)


def line(*values):
    """A repeat of these excesses, errors falling as 1 / sqrt(N) from .1 at N = 100."""
    return np.array([[v, 1 / np.sqrt(n), 0.0] for v, n in zip(values, looks.LOOKS, strict=True)])


@pytest.mark.parametrize(
    ("values", "ended"),
    [
        ((2.0,) * 5, ("fail", 20)),
        ((0.0,) * 5, ("pass", 40)),
        ((1.0,) * 5, ("inconclusive", 100)),
        ((1.0, 1.0, 2.0, 1.0, 1.0), ("fail", 60)),
        ((1.0, 1.0, 1.0, 1.0, 1.18), ("inconclusive", 100)),  # sure at .95 once, not at five looks
    ],
)
def test_a_repeat_ends_at_the_first_look_that_is_sure(values, ended):
    assert looks.ended(line(*values).ravel(), 1.0) == ended


def test_passes_that_the_last_look_contradicts_are_counted():
    """Three repeats: passes at 20 and stays, passes at 20 and rises, is never surely below."""
    scores = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 1, 2], [4, 4, 4, 4, 1.2]])
    repeats = np.stack([scores, np.full_like(scores, 0.01)], 1)
    contradicted, *saved = looks.early_row(repeats, "forget_mean")
    assert contradicted == "**.333**"
    assert saved == ["53"] * 3
