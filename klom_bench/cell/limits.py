"""What a record is held against: limits, and the scores of an earlier run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from klom_bench.cell.baseline import Baseline, Regression
from klom_bench.cell.gates import refuse_too_few
from klom_bench.cell.record import Record
from klom_bench.metrics.estimate import CONFIDENCE


@dataclass(frozen=True)
class Limits:
    """Limits by metric; how far scores may rise above those of a baseline, by metric.

    confidence: how sure a pass or a fail must be, where a number has an error.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    confidence: float = CONFIDENCE
    baseline: Baseline | None = None
    regressions: Mapping[str, Regression] = field(default_factory=dict)

    def refuse_too_few(self, models: int) -> None:
        """KlomError where excess is gated with too few models a side."""
        refuse_too_few([*self.limits, *self.regressions], models)

    def held(self, record: Record, perfect: Callable[[str], float | None]) -> Record:
        """The record with its gates. perfect: by metric, what `Gate` has of chance."""
        gates = tuple(
            record.gate(metric, limit, perfect(metric), None, self.confidence)
            for metric, limit in sorted(self.limits.items())
        )
        if self.baseline:
            gates += self.baseline.gates(record, self.regressions, self.confidence, perfect)
        return replace(record, gates=gates)
