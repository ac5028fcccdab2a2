"""Four numbers that stand for the scores of many points."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

SPLITS = ("forget", "retain", "val")
STATISTICS = ("mean", "p50", "p95", "p99")


@dataclass(frozen=True)
class Summary:
    """Mean and percentiles (linear between points, as NumPy does) of scores in nats."""

    mean: float
    p50: float
    p95: float
    p99: float

    def as_json(self) -> dict[str, float | None]:
        """Plain numbers, null where a number is not finite."""
        return {name: plain(value) for name, value in asdict(self).items()}


def number(value: float | None) -> float:
    """The way back from `plain`: nan for None."""
    return math.nan if value is None else value


def plain(value: Any) -> float | None:
    """A JSON number, or None where there is none to give."""
    if value is None or not np.isfinite(value):
        return None
    return float(value)


def summarise(scores: Any) -> Summary:
    """Summary of the scores [points]; all nan if one score is nan or there is no point."""
    values = np.asarray(scores, dtype=np.float64)
    if values.size == 0:
        return Summary(*[float("nan")] * 4)
    return Summary(float(values.mean()), *(float(v) for v in np.percentile(values, [50, 95, 99])))
