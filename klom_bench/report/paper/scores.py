"""The numbers of a table, by the name of a metric without its split."""

from dataclasses import dataclass

from klom_bench.cell.gates import EXCESS
from klom_bench.cell.record_json import RecordJson
from klom_bench.metrics.estimate import EstimateJson
from klom_bench.metrics.summary import SPLITS, STATISTICS

METRICS = (EXCESS, *STATISTICS, *(f"reverse_{statistic}" for statistic in STATISTICS))
WITH_ERROR = (EXCESS, "mean", "reverse_mean")
"""Errors of percentiles are approximate, and are not told in tables."""


@dataclass(frozen=True)
class Score:
    """A number and half of its 95 % interval; None where there is none, or none is known."""

    value: float | None
    away: float | None = None


Scores = tuple[Score, ...]
"""Of forget, retain and val."""
PERFECT: Scores = (Score(0.0),) * len(SPLITS)


def of_gates(metric: str) -> str:
    """The forget set's, as limits name it."""
    reverse = metric.startswith("reverse_")
    return f"{'reverse_' * reverse}forget_{metric.removeprefix('reverse_')}"


def scored(record: RecordJson, metric: str) -> Scores:
    """Those of what was unlearned."""
    if metric == EXCESS:
        return tuple(_with_error(record["excess"].get(split)) for split in SPLITS)
    if metric in WITH_ERROR:
        return tuple(_with_error(record["errors"][split][metric]) for split in SPLITS)
    return _plain(record, metric, ("scores", "reverse"))


def floor(record: RecordJson, metric: str) -> Scores:
    """Those of a perfect unlearner."""
    if metric == EXCESS:
        return PERFECT
    return _plain(record, metric, ("floor", "floor_reverse"))


def nothing(record: RecordJson, metric: str) -> Scores:
    """Those of the originals."""
    if metric == EXCESS:
        return tuple(_with_error(record["excess_do_nothing"].get(split)) for split in SPLITS)
    return _plain(record, metric, ("do_nothing", "do_nothing_reverse"))


def _plain(record: RecordJson, metric: str, keys: tuple[str, str]) -> Scores:
    statistic = metric.removeprefix("reverse_")
    splits = record[keys[statistic != metric]]  # type: ignore[literal-required]
    return tuple(Score(splits[split][statistic]) for split in SPLITS)


def _with_error(of: EstimateJson | None) -> Score:
    if of is None or of["value"] is None:
        return Score(None)
    return Score(of["value"], None if of["high"] is None else of["high"] - of["value"])
