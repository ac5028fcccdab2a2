"""The word: every rule by a case in which only this rule decides, and every word simulated."""

import math

import numpy as np
import pytest

from klom_bench.metrics.excess import BothWays, Jackknife, mean_excess
from klom_bench.metrics.permutation import Retrained, retrained
from klom_bench.metrics.word import WORDS, word

LIKE, FORGETS, IN_PART, NO_BETTER, BREAKS, CANNOT = (
    "like a retrain",
    "forgets, keeps the rest",
    "forgets in part",
    "no better than doing nothing",
    "breaks the rest",
    "cannot be told at this N",
)
SPLITS, DIRECTIONS = ("forget", "retain", "val"), ("forward", "reverse")
PLACES = [(split, way) for split in SPLITS for way in DIRECTIONS]
REST = [place for place in PLACES if place[0] != "forget"]
YES = Retrained(1.0, dict.fromkeys(SPLITS, 1.0), dict.fromkeys(SPLITS, 1.0))
N = 100
SURE = 1e-4


def jackknife(value, se=SURE):
    """100 models a side, so an error counts 1.66 times; all those built here vary together."""
    away = se / math.sqrt(N - 1) * np.tile([1.0, -1.0], N // 2)
    return Jackknife(value, np.full(N, value), value + away)


def excesses(default, places):
    """Both ways of every split; places: (split, direction) -> (value, se)."""
    found = {place: jackknife(*default) for place in PLACES}
    found |= {place: jackknife(*of) for place, of in places.items()}
    return {split: BothWays(*(found[split, way] for way in DIRECTIONS)) for split in SPLITS}


def given(unlearned=None, nothing=None, test=YES):
    """The word for a perfect unlearner but for these places; doing nothing has 2 on forget."""
    at_all = {("forget", "forward"): (2.0, 0.0), ("forget", "reverse"): (2.0, 0.0)}
    return word(
        excesses((0.0, SURE), unlearned or {}),
        excesses((0.0, 0.0), at_all | (nothing or {})),
        test,
    )


def forget(share, se=SURE):
    """Shares of the excess of doing nothing that are gone, or one for both directions."""
    forward, reverse = share if isinstance(share, tuple) else (share, share)
    return {
        ("forget", "forward"): (2 * (1 - forward), se),
        ("forget", "reverse"): (2 * (1 - reverse), se),
    }


def test_the_list_is_closed():
    assert WORDS == (LIKE, FORGETS, IN_PART, NO_BETTER, BREAKS, CANNOT)


def test_a_perfect_unlearner_is_like_a_retrain():
    assert given() == LIKE


@pytest.mark.parametrize(
    ("value", "se", "expected"),
    [(0.1, 0.1, CANNOT), (0.1, 0.02, LIKE), (0.0, 0.0, CANNOT), (-0.1, 0.01, CANNOT)],
)
def test_where_doing_nothing_may_be_perfect_nothing_can_be_told(value, se, expected):
    # Far below 0, so that every later rule would be sure.
    forward = ("forget", "forward")
    assert given({forward: (-1.0, SURE)}, {forward: (value, se)}) == expected


class TestRest:
    @pytest.mark.parametrize("place", REST)
    @pytest.mark.parametrize(
        ("value", "se", "expected"),
        [
            (0.31, SURE, BREAKS),
            (0.09, SURE, FORGETS),
            # In the zone both are true, and the middle decides.
            (0.19, 0.01, FORGETS),
            (0.21, 0.01, BREAKS),
            # One is true: .15 + 1.66 x .05 < .3, .25 - 1.66 x .05 > .1.
            (0.15, 0.05, FORGETS),
            (0.25, 0.05, BREAKS),
            # None is.
            (0.2, 0.1, CANNOT),
            (0.28, 0.12, CANNOT),
            (0.12, 0.12, CANNOT),
        ],
    )
    def test_every_split_both_ways_must_be_kept(self, place, value, se, expected):
        assert given({place: (value, se)}) == expected

    @pytest.mark.parametrize("place", REST)
    def test_is_judged_beside_doing_nothing(self, place):
        assert given({place: (5.0, SURE)}, {place: (4.95, SURE)}) == FORGETS
        assert given({place: (0.0, SURE)}, {place: (4.95, SURE)}) == LIKE

    def test_differences_are_paired(self):
        place = ("val", "forward")
        assert given({place: (5.0, 0.5)}, {place: (4.95, 0.5)}) == FORGETS
        assert given({place: (5.0, 0.5)}, {place: (4.95, 0.0)}) == CANNOT

    def test_is_broken_where_one_is_however_open_others_are(self):
        open_too = {("val", "reverse"): (0.2, 0.1), ("retain", "forward"): (0.5, SURE)}
        assert given(open_too) == BREAKS
        assert given(open_too | forget(0.0)) == BREAKS

    def test_a_split_without_points_leaves_it_open(self):
        assert given({("val", "forward"): (math.nan, SURE)}) == CANNOT


class TestForget:
    @pytest.mark.parametrize(
        ("share", "se", "expected"),
        [
            (0.95, SURE, FORGETS),
            (0.65, SURE, IN_PART),
            # In the zone.
            (0.81, 0.01, FORGETS),
            (0.79, 0.01, IN_PART),
            # e is .2 or .56: .2 + 1.66 x .2 < .6 and .2 is not above .2; .56 - 1.66 x .1 > .2.
            (0.9, 0.2, FORGETS),
            (0.72, 0.1, IN_PART),
            (0.8, 0.4, CANNOT),
        ],
    )
    def test_forgets_by_the_share_that_is_gone(self, share, se, expected):
        assert given(forget(share, se)) == expected

    @pytest.mark.parametrize("shares", [(0.95, 0.65), (0.65, 0.95), (0.95, 0.79), (0.79, 0.95)])
    def test_forgets_both_ways_or_in_part(self, shares):
        assert given(forget(shares)) == IN_PART

    @pytest.mark.parametrize(
        ("share", "se", "expected"),
        [
            (0.5, SURE, IN_PART),
            (0.21, SURE, IN_PART),
            (0.09, SURE, NO_BETTER),
            (-1.0, SURE, NO_BETTER),
            # In the zone.
            (0.16, 0.01, IN_PART),
            (0.14, 0.01, NO_BETTER),
            # e is 1.5 or 1.9: 1.5 + 1.66 x .15 < 1.8, 1.9 - 1.66 x .15 > 1.6.
            (0.25, 0.15, IN_PART),
            (0.05, 0.15, NO_BETTER),
            (0.15, 0.4, CANNOT),
        ],
    )
    def test_in_part_or_no_better_by_the_forward_share(self, share, se, expected):
        assert given(forget(share, se)) == expected
        assert given(forget((share, 0.95), se)) == expected
        assert given(forget((share, -1.0), se)) == expected

    def test_shares_are_paired_with_doing_nothing(self):
        # e = .2 n in every repeat.
        places = {("forget", "forward"): (0.38, 0.19), ("forget", "reverse"): (0.38, 0.19)}
        assert given(places, dict.fromkeys(places, (2.0, 1.0))) == FORGETS
        assert given(places, dict.fromkeys(places, (2.0, 0.0))) == CANNOT


class TestLike:
    @pytest.mark.parametrize("place", PLACES)
    def test_each_excess_must_be_surely_small(self, place):
        assert given({place: (0.049, SURE)}) == LIKE
        assert given({place: (0.04, 0.01)}) == FORGETS
        assert given({place: (0.051, SURE)}) == FORGETS

    def test_by_the_error_that_it_would_have_at_the_limit(self):
        # .02 + 1.66 x .015 < .05, but not with an error sqrt(.05 / .02) times as large.
        assert given({("val", "forward"): (0.02, 0.015)}) == FORGETS
        assert given({("val", "forward"): (0.02, 0.01)}) == LIKE

    @pytest.mark.parametrize("split", SPLITS)
    def test_no_test_may_speak_against_it(self, split):
        for p, expected in ((0.05, FORGETS), (0.051, LIKE)):
            one = dict.fromkeys(SPLITS, 1.0) | {split: p}
            assert given(test=Retrained(1.0, one, YES.outline)) == expected
            assert given(test=Retrained(1.0, YES.energy, one)) == expected
        assert given(forget(0.5), test=Retrained(0.0, {split: 0.0}, {})) == IN_PART


ROWS = {name: np.arange(20) + 20 * i for i, name in enumerate(SPLITS)}


def simulated(models, influence, change, seed=0):
    """The word for models whose margins were changed from those of oracles."""
    rng = np.random.default_rng(seed)
    oracle, originals, fresh = rng.normal(size=(3, models, 60))
    moved = np.repeat([influence, 0.0, 0.0], 20)
    oracle, originals, fresh = (np.float32(x) for x in (oracle, originals + moved, fresh))
    unlearned = np.float32(change(originals, fresh, moved))
    excess, nothing = (mean_excess(oracle, x, ROWS) for x in (unlearned, originals))
    return word(excess, nothing, retrained(oracle, unlearned, ROWS, 199))


def rest(by):
    return np.repeat([0.0, by, by], 20)


@pytest.mark.parametrize(
    ("influence", "change", "expected"),
    [
        (2.0, lambda _, fresh, moved: fresh, LIKE),
        (2.0, lambda _, fresh, moved: fresh + moved / 6, FORGETS),
        (2.0, lambda _, fresh, moved: fresh * 1.25, FORGETS),
        (2.0, lambda _, fresh, moved: fresh + moved / 2**0.5, IN_PART),
        (2.0, lambda originals, fresh, moved: originals, NO_BETTER),
        (2.0, lambda originals, fresh, moved: originals + moved, NO_BETTER),
        (2.0, lambda _, fresh, moved: fresh + rest(1.0), BREAKS),
        (2.0, lambda _, fresh, moved: fresh * 0.4, BREAKS),
        (2.0, lambda originals, fresh, moved: originals + rest(-1.0), BREAKS),
        (0.0, lambda _, fresh, moved: fresh, CANNOT),
    ],
)
def test_every_word_is_said_of_models_that_deserve_it(influence, change, expected):
    assert simulated(100, influence, change) == expected


def test_five_models_tell_what_is_plain():
    assert simulated(5, 60.0, lambda originals, fresh, moved: originals) == NO_BETTER
    assert simulated(5, 2.0, lambda _, fresh, moved: fresh + rest(60.0)) == BREAKS
    assert simulated(5, 0.5, lambda _, fresh, moved: fresh) == CANNOT


def test_words_are_wrong_in_few_runs_outside_the_zones():
    # With .6 of the shift left, .36 of the excess is: a share of .64.
    found = [simulated(100, 2.0, lambda _, fresh, moved: fresh + 0.6 * moved, i) for i in range(40)]
    assert set(found) <= {IN_PART, CANNOT}
    assert found.count(IN_PART) >= 30
