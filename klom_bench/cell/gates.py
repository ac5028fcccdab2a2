"""Limits on scores, and what to say when a score is held against one."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from klom_bench.errors import KlomError, unknown
from klom_bench.metrics.summary import SPLITS, STATISTICS

Verdict = Literal["pass", "fail", "inconclusive", "none"]
TABLE = "tool.klom.gates"
CEILING = math.log((1 + 1e-5) / 1e-5)  # of all estimators, which share eps
METRICS = {
    f"{'reverse_' * reverse}{split}_{statistic}": (reverse, split, statistic)
    for reverse in (False, True)
    for split in SPLITS
    for statistic in STATISTICS
}


@dataclass(frozen=True)
class Earlier:
    """What a limit was reckoned from: a baseline's score, the rise allowed, what changed since."""

    value: float
    allowed: str
    source: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gate:
    """One limit held against one score; `perfect` is the 95 % quantile of a perfect unlearner."""

    metric: str
    limit: float
    value: float
    perfect: float
    earlier: Earlier | None = None

    @property
    def parts(self) -> tuple[bool, str, str]:
        """Whether it is the reverse divergence, the split, the statistic."""
        return METRICS[self.metric]

    @property
    def verdict(self) -> Verdict:
        """Inconclusive where even a perfect unlearner may exceed the limit; nan never passes.

        A score that did not rise above an earlier one is no regression, however low both are; one
        that did is inconclusive while it stays where a perfect unlearner may be.
        """
        if self.earlier is not None:
            if self.value <= self.limit:
                return "pass"
            return "inconclusive" if self.value <= self.perfect else "fail"
        if self.limit < self.perfect:
            return "inconclusive"
        return "pass" if self.value <= self.limit else "fail"


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
    for metric, limit in limits.items():
        if metric not in METRICS:
            raise KlomError(f"{where}: {unknown('limit', metric, METRICS)}")
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not limit >= 0:
            raise KlomError(f"{where}: the limit {metric} must be a number >= 0, got {limit!r}")
        if limit > CEILING:
            raise KlomError(
                f"{where}: the limit {metric} = {limit} can never fail, scores end at "
                f"ln(1 / eps) = {CEILING:.2f}"
            )
    return {metric: float(limit) for metric, limit in limits.items()}


def checked_table(table: Any) -> None:
    """Check [tool.klom.gates] as far as it goes without knowing methods and forget sets."""
    for path, part in _levels(table):
        where = ".".join((TABLE, *path))
        if len(path) > 2:
            raise KlomError(f"[{where}]: tables go no deeper than METHOD.FORGET_SET")
        checked_limits({k: v for k, v in part.items() if not isinstance(v, dict)}, f"[{where}]")


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
        if not isinstance(limit, dict)
    }
