"""How many models would decide a gate, from a measurement with a few."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from klom_bench.cell.gates import EXCESS, FREE_OF_N, Gate
from klom_bench.cell.record import Record
from klom_bench.metrics.estimate import Estimate, about_as_many, quantile
from klom_bench.metrics.excess import FEWEST
from klom_bench.metrics.floor import members_needed

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
"""Numbers of models that are spoken of."""


@dataclass(frozen=True)
class Need:
    """A gate as few models have it, and about how many would decide it; None: no number would.

    at_least: it is the number from which on the limit lies out of the noise; whether KLOM is below
    it then is not known before, since KLOM falls with N.
    """

    gate: Gate
    models: int | None
    at_least: bool = False

    def within(self, models: int) -> bool:
        """Whether so many are enough."""
        return self.models is not None and self.models <= models

    def open_at(self, models: int) -> tuple[float, float] | None:
        """Between which true values so many models would leave it open; None where no error is
        known."""
        estimate, limit = self.gate.estimate, self.gate.limit
        if self.at_least or estimate is None or self.gate.earlier:
            return None
        of_excess = self.gate.parts[2] == EXCESS
        now = _as_at(estimate, limit) if of_excess else estimate.se
        at_limit = now * math.sqrt(estimate.models / models)
        away = quantile(self.gate.confidence, models) * at_limit
        return limit - away, limit + away


def needs(record: Record) -> list[Need]:
    """What each gate of a record needs."""
    return [_need(record, gate) for gate in record.gates]


def decided(every: Sequence[Need], models: int) -> int:
    """How many gates so many models would decide."""
    return sum(need.within(models) and not need.at_least for need in every)


def out_of_noise(every: Sequence[Need], models: int) -> int:
    """Of how many gates on KLOM so many models would bring the limit out of the noise."""
    return sum(need.within(models) and need.at_least for need in every)


def _need(record: Record, gate: Gate) -> Need:
    reverse, split, statistic = gate.parts
    if gate.why:
        return Need(gate, None)
    if (
        statistic not in FREE_OF_N
        or gate.estimate is None
        or (gate.earlier and not gate.earlier.rise)
    ):
        points = record.counts[split]
        enough = members_needed(record.estimator, points, statistic, gate.limit, reverse)
        return Need(gate, enough, at_least=True)
    needed: int | None
    if gate.earlier and gate.earlier.rise:
        over = gate.earlier.rise.over
        needed = about_as_many(over, 0, gate.confidence) if over.value > 0 else FEWEST
    else:
        needed = about_as_many(gate.estimate, gate.limit, gate.confidence)
    return Need(gate, None if needed is None else max(FEWEST, needed))


def _as_at(estimate: Estimate, limit: float) -> float:
    """The error at a limit on either side: errors of divergences grow as their square root."""
    if estimate.value <= limit:
        return estimate.at_the_limit(limit).se
    return estimate.se * math.sqrt(limit / estimate.value)
