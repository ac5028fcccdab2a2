"""Scores as github-action-benchmark reads them (its tool `customSmallerIsBetter`)."""

from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict

from klom_bench.cell.record_json import RecordJson, error_of, name_of, score_of
from klom_bench.errors import visible
from klom_bench.metrics.summary import SPLITS

METRICS = tuple(f"{split}_{of}" for of in ("excess", "p95") for split in SPLITS)


class Entry(TypedDict):
    """A point of a chart; the chart is found by its name. extra: lines of its tooltip."""

    name: str
    unit: str
    value: float
    range: NotRequired[str]
    extra: str


def chart(records: Sequence[RecordJson]) -> list[Entry]:
    """An entry a test and metric; none where there is no number."""
    return [entry for record in records for entry in _entries(record)]


def _entries(record: RecordJson) -> Iterator[Entry]:
    for metric in METRICS:
        if (value := score_of(record, metric)) is None:
            continue
        entry: Entry = {
            "name": visible(f"{name_of(record)} {metric}"),
            "unit": "nats",
            "value": round(value, 4),
            "extra": _about(record),
        }
        error = error_of(record, metric)
        if error and error["high"] is not None:
            entry["range"] = f"± {error['high'] - value:.4f}"
        yield entry


def _about(record: RecordJson) -> str:
    members, estimator = record["members"], record["estimator"]
    lines = [
        f"{members['unlearned']} unlearned against {members['oracle']} oracles",
        f"estimator {estimator['name']}, seed {record['seed']}",
        *(f"{name} = {value}" for name, value in record["hyperparameters"].items()),
        *([] if record["epoch"] is None else [f"epoch {record['epoch']}"]),
        record["word"],
    ]
    return "\n".join(map(visible, lines))
