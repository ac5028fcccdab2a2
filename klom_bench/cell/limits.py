"""What a record is held against: limits, and the scores of an earlier run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from klom_bench.cell.baseline import Baseline, Regression
from klom_bench.cell.gates import FREE_OF_N, METRICS, refuse_too_few
from klom_bench.cell.record import Record
from klom_bench.metrics.estimate import CONFIDENCE
from klom_bench.metrics.looks import sure_at_each

WITH_ERROR = (*FREE_OF_N, "mean")
"""Statistics that are judged with confidence."""


def sure_of(metric: str, looks: tuple[int, ...], family: int, confidence: float) -> float:
    """How sure one look at one of so many gates must be, so that all are right with a confidence.

    KLOM falls with N, so that it may pass early, and fails at the last look alone.
    """
    each = 1 - (1 - confidence) / family
    return sure_at_each(looks, each) if looks and METRICS[metric][2] in FREE_OF_N else each


@dataclass(frozen=True)
class Limits:
    """Limits by metric; how far scores may rise above those of a baseline, by metric.

    confidence: how sure a pass or a fail must be, where a number has an error. looks: the numbers
    of models at which they are looked at, where there are several. early: more models may come.
    family: how many gates of the run are judged together.
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    confidence: float = CONFIDENCE
    baseline: Baseline | None = None
    regressions: Mapping[str, Regression] = field(default_factory=dict)
    looks: tuple[int, ...] = ()
    early: bool = False
    family: int = 1

    def at(self, looks: tuple[int, ...], early: bool) -> "Limits":
        """The same at one of several looks."""
        return replace(self, looks=looks, early=early)

    def sure(self, metric: str) -> float:
        """How sure one look at one gate must be."""
        return sure_of(metric, self.looks, self._family(metric), self.confidence)

    def in_family(self) -> int:
        """How many of these gates would be judged together with others."""
        return sum(METRICS[metric][2] in WITH_ERROR for metric in (*self.limits, *self.regressions))

    def _family(self, metric: str) -> int:
        return self.family if METRICS[metric][2] in WITH_ERROR else 1

    def refuse_too_few(self, models: int) -> None:
        """KlomError where excess is gated with too few models a side."""
        refuse_too_few([*self.limits, *self.regressions], models)

    def held(self, record: Record, perfect: Callable[[str], float | None]) -> Record:
        """The record with its gates. perfect: by metric, what `Gate` has of chance."""
        if self.early:  # when KLOM is still too high for chance to matter

            def perfect(metric: str) -> float | None:
                return None

        gates = tuple(
            record.gate(metric, limit, perfect(metric), None, self.sure(metric), self.early)
            for metric, limit in sorted(self.limits.items())
        )
        if self.baseline:
            risen = self.baseline.gates(record, self.regressions, self.sure, perfect)
            gates += tuple(replace(gate, early=self.early) for gate in risen)
        together = [replace(gate, family=self._family(gate.metric)) for gate in gates]
        return replace(record, gates=tuple(together))
