"""The summary table, from records in their JSON form."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from klom_bench.metrics.summary import SPLITS

Json = Mapping[str, Any]
HEAD = (
    ("forget set", "", "KLOM P95", "", "", "accuracy", "", "", "unlearn", "cost", ""),
    ("", "", "forget", "retain", "val", "forget", "retain", "val", "s", "of retrain", "verdict"),
)


def headline(records: Sequence[Json]) -> str:
    """N, the task, the estimator and the device: what every number rests on."""
    first = records[0]
    members, estimator = first["members"], first["estimator"]
    return (
        f"{members['unlearned']} unlearned against {members['oracle']} oracles of {first['task']}, "
        f"estimator {estimator['name']} (KL {estimator['direction']}, nats), {first['device']}"
    )


def table(records: Sequence[Json]) -> list[str]:
    """Lines: for every forget set the oracles, doing nothing, then a row a test."""
    return aligned([*HEAD, *cells(records)], left=2)


def cells(records: Sequence[Json]) -> list[tuple[str, ...]]:
    """The rows of the table without its head."""
    rows: list[tuple[str, ...]] = []
    for name, group in groupby(records, lambda r: (r["task"], r["forget_set"])):
        together = list(group)
        first = together[0]
        rows.append(_row(name[1], "oracles (floor)", first["floor"], first["accuracy_oracle"]))
        rows.append(_row("", "do nothing", first["do_nothing"], first["accuracy_do_nothing"]))
        rows += [
            _row(
                "",
                r["method"],
                r["scores"],
                r["accuracy"],
                _number(r["seconds"]["unlearn"], ".2f"),
                _number(r["relative_cost"]["time"], ".1%"),
                "no gate" if r["verdict"] == "none" else r["verdict"],
            )
            for r in together
            if r["method"] != "do_nothing" or r["verdict"] != "none" or len(together) == 1
        ]
    return rows


def _row(forget_set: str, who: str, scores: Json, accuracy: Json, *rest: str) -> tuple[str, ...]:
    values = [_number(scores[split]["p95"], ".2f") for split in SPLITS]
    right = [_number(accuracy[split], ".3f") for split in SPLITS]
    return (forget_set, who, *values, *right, *rest, *[""] * (3 - len(rest)))


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Columns of equal width, the first `left` and the last to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    return [
        "  ".join(
            text.ljust(width) if i < left or i == last else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
