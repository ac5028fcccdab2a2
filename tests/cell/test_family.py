"""Gates of a run judged together."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import t

from klom_bench.cell.family import judged_together
from klom_bench.cell.gates import Gate
from klom_bench.cell.limits import Limits, sure_of
from klom_bench.cell.record import Looks
from klom_bench.metrics.estimate import Estimate, doubt, judged
from klom_bench.metrics.looks import sure_at_each


@pytest.fixture
def record(measured):
    """A record with gates of these values, errors and limits, of 50 models each."""
    one = measured("do_nothing", members=5)

    def with_gates(*numbers, family, looks=None):
        gates = tuple(
            Gate("forget_excess", limit, value, None, None, Estimate(value, se, 50), family=family)
            for value, se, limit in numbers
        )
        return replace(one, gates=gates, looks=looks)

    return with_gates


def verdicts(records):
    return [[gate.verdict for gate in record.gates] for record in records]


@pytest.mark.parametrize("limit", [0.1, 0.5, 0.9])
def test_doubt_is_where_a_claim_begins_to_be_made(limit):
    estimate = Estimate(0.4, 0.08, 30)
    p = doubt(estimate, limit)
    assert judged(estimate, limit, 1 - p - 1e-9) != "inconclusive"
    assert judged(estimate, limit, 1 - p + 1e-9) == "inconclusive"


def test_doubt_of_a_fail_is_students():
    assert doubt(Estimate(0.6, 0.08, 30), 0.4) == pytest.approx(t.sf(0.2 / 0.08, 29))


def test_a_number_without_an_error_is_beyond_doubt():
    assert doubt(Estimate(0.6, 0.0, 30), 0.4) == 0


def test_a_gate_without_a_number_does_not_hold_up_the_others(record):
    gates = [(float("nan"), float("nan"), 0.5), (9.0, 0.1, 0.5)]
    assert verdicts(judged_together([record(*gates, family=2)], 0.95)) == [["fail", "fail"]]
    gates[0] = (0.5, float("nan"), 0.5)
    assert verdicts(judged_together([record(*gates, family=2)], 0.95))[0][1] == "fail"


def by_hand(numbers, confidence):
    """Holm as his paper has it: p-values in order, each against alpha / (m - i)."""
    alpha, m = 1 - confidence, len(numbers)
    p = [doubt(Estimate(value, se, 50), limit) for value, se, limit in numbers]
    found = ["inconclusive"] * m
    for i, k in enumerate(np.argsort(p)):
        if p[k] > alpha / (m - i):
            break
        found[k] = "fail" if numbers[k][0] > numbers[k][2] else "pass"
    return found


def test_it_is_holms_procedure(record):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        m = int(rng.integers(2, 9))
        numbers = [(v, 0.1, 0.5) for v in 0.5 + 0.4 * rng.standard_normal(m)]
        cut = int(rng.integers(1, m))
        parts = [record(*part, family=m) for part in (numbers[:cut], numbers[cut:])]
        found = [v for of in verdicts(judged_together(parts, 0.95)) for v in of]
        assert found == by_hand(numbers, 0.95)
        seen |= set(found)
    assert seen == {"pass", "fail", "inconclusive"}


def test_claims_of_gates_at_their_limits_are_rarely_made():
    rng, wrong, plain = np.random.default_rng(1), 0, 0
    for _ in range(400):
        estimates = [Estimate(v, 0.02, 50) for v in 0.5 + 0.02 * rng.standard_t(49, 33)]
        p = np.array([doubt(estimate, 0.5) for estimate in estimates])
        wrong += p.min() < 0.05 / 33
        plain += p.min() < 0.05
    assert wrong / 400 < 0.13  # .05 for fails and as much for passes
    assert plain / 400 > 0.9


def test_gates_judged_alone_stay_as_they_are(record):
    alone = record((0.55, 0.02, 0.5), family=1)
    (after,) = judged_together([alone], 0.95)
    assert after == alone


def test_a_family_asks_for_more_and_only_where_there_is_an_error(measured):
    limits = {"forget_excess": 1.0, "forget_mean": 9.0, "forget_p95": 9.0}
    held = Limits(limits, family=10)
    assert held.in_family() == 2
    record = held.held(measured("do_nothing", members=5), lambda metric: 0.1)
    gates = {gate.metric: gate for gate in record.gates}
    assert gates["forget_excess"].confidence == pytest.approx(0.995)
    assert gates["forget_mean"].confidence == pytest.approx(0.995)
    assert gates["forget_p95"].family == 1


def test_several_looks_and_several_gates_are_both_paid_for(record):
    looks = Looks((20, 40, 60), 2, "settled")
    assert sure_of("forget_excess", looks.sizes, 4, 0.95) == sure_at_each(looks.sizes, 0.9875)
    value = 0.5 + 1.9 * 0.05  # errors above: enough at once, not at one of three looks
    once, several = (
        judged_together([record((value, 0.05, 0.5), (9, 0.1, 1), family=2, looks=of)], 0.95)
        for of in (None, looks)
    )
    assert verdicts(once) == [["fail", "fail"]]
    assert verdicts(several) == [["inconclusive", "fail"]]


def test_the_surer_a_claim_the_more_is_asked_of_it(record):
    gates = [(0.5 + k, 0.1, 0.5) for k in (3, 1, 2)]
    (after,) = judged_together([record(*gates, family=3)], 0.95)
    by_distance = sorted(after.gates, key=lambda gate: -gate.value)
    assert all(a.confidence > b.confidence for a, b in pairwise(by_distance))
