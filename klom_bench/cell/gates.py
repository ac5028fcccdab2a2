"""Limits on scores, and what to say when a score is held against one."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from klom_bench.errors import KlomError, unknown
from klom_bench.metrics.comparison import Paired, smallest_seen
from klom_bench.metrics.estimate import (
    CONFIDENCE,
    Estimate,
    doubt,
    doubt_above,
    judged,
    models_that_settle,
)
from klom_bench.metrics.excess import FEWEST
from klom_bench.metrics.leftover import UNKNOWN, WHOLE, Why
from klom_bench.metrics.summary import SPLITS, STATISTICS

Verdict = Literal["pass", "fail", "inconclusive", "none"]
TABLE = "tool.klom.gates"
CEILING = math.log((1 + 1e-5) / 1e-5)  # of all estimators, which share eps
EXCESS = "excess"
LEFTOVER = "leftover"
"""In per cent, and no divergence: the others are in nats."""
FREE_OF_N = (EXCESS, LEFTOVER)
"""Statistics that are the same at every N: they may pass and fail at each of several looks."""
METRICS = {
    **{
        f"{'reverse_' * reverse}{split}_{statistic}": (reverse, split, statistic)
        for reverse in (False, True)
        for split in SPLITS
        for statistic in STATISTICS
    },
    **{f"{split}_{EXCESS}": (False, split, EXCESS) for split in SPLITS},
    f"forget_{LEFTOVER}": (False, "forget", LEFTOVER),
}
MARGINS = "margins"
"""What stands for task and method where margins are scored that were computed elsewhere."""
CONFIDENT, FAMILY = "confidence", "family"
"""The keys beside limits in the table."""
FAMILIES = ("none", "holm")


@dataclass(frozen=True)
class Rise:
    """A number beside that of a baseline, with the error of the two together.

    difference: now less before. over: now less what is allowed. paired: models that both share.
    """

    difference: Estimate
    over: Estimate
    paired: Paired


@dataclass(frozen=True)
class Earlier:
    """What a limit was reckoned from: a baseline's score, the rise allowed, what changed since.

    rise: None where no error is known.
    """

    value: float
    allowed: str
    source: str
    changed: tuple[str, ...] = ()
    rise: Rise | None = None


@dataclass(frozen=True)
class Gate:
    """One limit held against one number.

    perfect: what a perfect unlearner's score stays below in 95 % of runs, by permuting the models
    of this cell; None of excess and of what is left over, which are 0 for it at every N.
    estimate: the number with its error; None where none is reckoned (percentiles), so that the
    number alone decides.
    early: more models may come. KLOM falls as they do, so that it may pass now, but not fail.
    family: how many gates of the run are judged together with it; 1 where it is judged alone.
    why: there is no number; it fails where models are off the line, else it is inconclusive.
    """

    metric: str
    limit: float
    value: float
    perfect: float | None
    earlier: Earlier | None = None
    estimate: Estimate | None = None
    confidence: float = CONFIDENCE
    early: bool = False
    family: int = 1
    why: Why | None = None

    @property
    def parts(self) -> tuple[bool, str, str]:
        """Whether it is the reverse divergence, the split, the statistic."""
        return METRICS[self.metric]

    @property
    def verdict(self) -> Verdict:
        """Inconclusive where the limit lies in the noise or in the interval; nan never passes."""
        if self.why is not None:
            return "inconclusive" if self.early or self.why == UNKNOWN else "fail"
        if self.early and self.parts[2] not in FREE_OF_N:
            return self._early
        if self.earlier is not None:
            rise = self.earlier.rise
            return self._risen_early(rise) if self.early else self._risen(rise)
        if self.in_the_noise:
            return "inconclusive"
        if self.estimate is None or math.isnan(self.value):
            return "pass" if self.value <= self.limit else "fail"
        return judged(self.estimate, self.limit, self.confidence)

    @property
    def doubt(self) -> float:
        """The p-value of what the gate claims, or of the nearer claim where it makes none."""
        if self.earlier:
            rise = self.earlier.rise
            return doubt_above(rise.over, 0) if rise else 1.0
        return doubt(self.estimate, self.limit) if self.estimate else 1.0

    @property
    def open(self) -> bool:
        """Whether the other gates of its family may settle it yet."""
        return self.family > 1 and self.verdict == "inconclusive" and not self.in_the_noise

    @property
    def _early(self) -> Verdict:
        """A pass where all of the interval is below; never contradicted by the last look in 300
        runs a case (measured)."""
        if self.earlier is not None or self.estimate is None:
            return "inconclusive"
        high = self.value + self.estimate.times_error(self.confidence)
        return "pass" if high <= self.limit else "inconclusive"

    @property
    def in_the_noise(self) -> bool:
        """Whether even a perfect unlearner may exceed the limit."""
        return self.perfect is not None and self.limit < self.perfect

    def _risen(self, rise: Rise | None) -> Verdict:
        """A score that did not rise above what is allowed is no regression, however low both are;
        one that did is inconclusive while it stays where a perfect unlearner may be, or the rise
        where chance may have it."""
        if self.value <= self.limit:
            return "pass"
        if self.perfect is not None and self.value <= self.perfect:
            return "inconclusive"
        if rise is None or math.isnan(self.value):
            return "fail"
        return "fail" if rise.over.surely_above(0, self.confidence) else "inconclusive"

    def _risen_early(self, rise: Rise | None) -> Verdict:
        """Only what is sure either way: whether it did not rise is asked at the last look."""
        if rise and rise.over.surely_above(0, self.confidence):
            return "fail"
        below = rise and rise.over.surely_below(0, self.confidence)
        return "pass" if below else "inconclusive"

    @property
    def seen(self) -> float | None:
        """What a regression must reach to fail in 80 % of runs; None where no error is known."""
        rise = self.earlier.rise if self.earlier else None
        return self.limit + smallest_seen(rise.over, self.confidence) if rise else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """What the number surely lies above and below, each with the confidence asked for."""
        if self.estimate is None:
            return None
        above = self.estimate.at_the_limit(self.limit)
        return (
            self.value - self.estimate.times_error(self.confidence),
            self.value + above.times_error(self.confidence),
        )

    @property
    def settled_at(self) -> int | None:
        """About the N at which the interval would no longer hold the limit."""
        if self.earlier and self.earlier.rise:
            return models_that_settle(self.earlier.rise.over, 0, self.confidence)
        if self.estimate is None:
            return None
        return models_that_settle(self.estimate, self.limit, self.confidence)


def overall(gates: Iterable[Gate]) -> Verdict:
    """The worst verdict of all gates."""
    verdicts: set[str] = {gate.verdict for gate in gates}
    if "fail" in verdicts:
        return "fail"
    if "inconclusive" in verdicts:
        return "inconclusive"
    return "pass" if verdicts else "none"


def checked_limits(limits: Mapping[str, Any], where: str) -> dict[str, float]:
    """Limits by metric as floats; KlomError for an unknown metric or something not a number."""
    if not isinstance(limits, Mapping):
        raise KlomError(
            f"{where} must be metrics with their limits, as {{'val_excess': 0.2}}; "
            f"got {limits!r:.60}"
        )
    for metric, limit in limits.items():
        if metric not in METRICS:
            raise KlomError(f"{where}: {unknown('limit', metric, METRICS)}")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
            raise KlomError(f"{where}: the limit {metric} must be a number >= 0, got {limit!r}")
        if METRICS[metric][2] == LEFTOVER:
            if limit > WHOLE:
                raise KlomError(
                    f"{where}: the limit {metric} = {limit} can never fail: it is in per cent, and "
                    f"doing nothing has {WHOLE:g}"
                )
        elif limit > CEILING:
            raise KlomError(
                f"{where}: the limit {metric} = {limit} can never fail, scores end at "
                f"ln(1 / eps) = {CEILING:.2f}"
            )
    return {metric: float(limit) for metric, limit in limits.items()}


def refuse_too_few(metrics: Iterable[str], models: int) -> None:
    """KlomError where excess or what is left over is gated with too few models a side, before
    anything is trained."""
    gated = [metric for metric in metrics if METRICS[metric][2] in FREE_OF_N]
    if gated and models < FEWEST:
        raise KlomError(
            f"{gated[0]} needs {FEWEST} models and oracles at least, not {models}: "
            f"--klom-models={FEWEST} --klom-oracles={FEWEST}"
        )


def checked_confidence(value: Any, where: str) -> float:
    """How sure a pass or a fail must be; KlomError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 <= value < 1:
        raise KlomError(
            f"{where} must be a number from 0.5 (the number alone decides) to below 1, as 0.95; "
            f"got {value!r}"
        )
    return float(value)


def checked_family(value: Any, where: str) -> str:
    """How gates of a run are judged together; KlomError for an unknown way."""
    if value not in FAMILIES:
        raise KlomError(f"{where} must be {' or '.join(FAMILIES)}, got {value!r}")
    return str(value)


def checked_table(table: Any) -> None:
    """Check [tool.klom.gates] as far as it goes without knowing methods and forget sets."""
    for path, part in _levels(table):
        where = ".".join((TABLE, *path))
        if len(path) > 2:
            raise KlomError(f"[{where}]: tables go no deeper than METHOD.FORGET_SET")
        limits = {k: v for k, v in part.items() if not isinstance(v, dict)}
        if CONFIDENT in limits:
            if path:
                raise KlomError(f"[{where}]: confidence holds for all gates: set it in [{TABLE}]")
            checked_confidence(limits.pop(CONFIDENT), f"[{where}]: {CONFIDENT}")
        if FAMILY in limits:
            if path:
                raise KlomError(f"[{where}]: family holds for all gates: set it in [{TABLE}]")
            checked_family(limits.pop(FAMILY), f"[{where}]: {FAMILY}")
        checked_limits(limits, f"[{where}]")


def _levels(
    table: Any, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    if not isinstance(table, dict):
        raise KlomError(f"[{'.'.join((TABLE, *path))}] must be a table, got {table!r}")
    yield path, table
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _levels(value, (*path, key))


def check_names(
    table: Mapping[str, Any], methods: Iterable[str], forget_sets: Iterable[str]
) -> None:
    """KlomError where a table is named after no method or no forget set: it would never gate."""
    for path, _ in _levels(table):
        where = f"[{'.'.join((TABLE, *path))}]"
        if path[:1] == (MARGINS,):  # names of its tests are known when they run
            continue
        if path and path[0] not in methods:
            raise KlomError(f"{where}: {unknown('method', path[0], methods)}")
        if path[1:] and path[1] not in forget_sets:
            raise KlomError(f"{where}: {unknown('forget set', path[1], forget_sets)}")


def limits_for(table: Mapping[str, Any], method: str, forget_set: str) -> dict[str, float]:
    """The limits of one test from [tool.klom.gates]: the most specific table wins."""
    of_method = table.get(method, {})
    layers = (table, of_method, of_method.get(forget_set, {}))
    return {
        metric: float(limit)
        for layer in layers
        for metric, limit in layer.items()
        if metric not in (CONFIDENT, FAMILY) and not isinstance(limit, dict)
    }
