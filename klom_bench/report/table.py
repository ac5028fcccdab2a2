"""The summary table, from records in their JSON form."""

from collections.abc import Sequence
from itertools import groupby

from klom_bench.cell.record_json import (
    Counts,
    EpochJson,
    Numbers,
    OfMethod,
    RecordJson,
    Row,
    Splits,
)
from klom_bench.errors import visible
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.columns import aligned
from klom_bench.report.remarks import outcome

HEAD = (
    ("forget set", "", "KLOM P95", "", "", "accuracy", "", "", "unlearn", "cost", ""),
    ("", "", "forget", "retain", "val", "forget", "retain", "val", "s", "of retrain", "verdict"),
)


def headline(first: RecordJson) -> str:
    """What every number of a run rests on."""
    estimator = first["estimator"]
    return setup(
        first["task"], first["members"], estimator["name"], estimator["direction"], first["device"]
    )


def setup(task: str, members: Counts, estimator: str, direction: str, device: str) -> str:
    """N, the task, the estimator and the device."""
    return visible(
        f"{members['unlearned']} unlearned against {members['oracle']} oracles of {task}, "
        f"estimator {estimator} (KL {direction}, nats), {device}"
    )


def table(rows: Sequence[Row]) -> list[str]:
    """Lines: for every forget set the oracles, doing nothing, then a row a test."""
    return aligned([*HEAD, *cells(rows)], left=2)


def cells(tests: Sequence[Row]) -> list[tuple[str, ...]]:
    """The rows of the table without its head; n/a where a method does not apply."""
    rows: list[tuple[str, ...]] = []
    for (_, forget_set), group in groupby(tests, lambda r: (r["task"], r["forget_set"])):
        together = list(group)
        measured = [r for r in together if "unfit" not in r]
        heading = [forget_set]
        if measured:
            first = measured[0]
            floor, nothing = first["floor"], first["do_nothing"]
            rows.append(_row(forget_set, "oracles (floor)", floor, first["accuracy_oracle"]))
            rows.append(_row("", "do nothing", nothing, first["accuracy_do_nothing"]))
            heading = []
        for r in together:
            if "unfit" in r:
                name = heading.pop() if heading else ""
                rows.append((name, named(r), *["n/a"] * (len(HEAD[0]) - 2)))
            elif r["method"] != "do_nothing" or len(together) == 1 or r["verdict"] != "none":
                rows += [_scored(r, early, "") for early in r["earlier"]]
                rows.append(_scored(r, r, outcome(r)))
    return rows


def named(record: OfMethod) -> str:
    """The method with what is swept of it; * where it sees the oracles, + where it rests on more
    models than those that it unlearns."""
    marks = "*" * record["sees_oracles"] + "+" * bool(record["rests_on"])
    return f"{record['method']}{marks} {record['setting']}".strip()


def _scored(test: RecordJson, r: RecordJson | EpochJson, verdict: str) -> tuple[str, ...]:
    """A row of scores: of a test, or of an earlier epoch of it."""
    epoch = f" epoch {r['epoch']}" if test["earlier"] else ""
    seconds, cost = r["seconds"]["unlearn"], r["relative_cost"]["examples"]
    rest = (_number(seconds, ".2f"), _number(cost, ".1%"), verdict)
    return _row("", named(test) + epoch, r["scores"], r["accuracy"], *rest)


def _row(
    forget_set: str, who: str, scores: Splits, accuracy: Numbers, *rest: str
) -> tuple[str, ...]:
    values = [_number(scores[split]["p95"], ".2f") for split in SPLITS]
    right = [_number(accuracy[split], ".3f") for split in SPLITS]
    return (forget_set, who, *values, *right, *rest, *[""] * (3 - len(rest)))


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)
