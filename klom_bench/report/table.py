"""The two tables of a run, from records in their JSON form: what methods did, and KLOM."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from klom_bench.cell.gates import MARGINS
from klom_bench.cell.record import NotApplicable, Record
from klom_bench.cell.record_json import (
    Counts,
    EpochJson,
    Numbers,
    OfMethod,
    RecordJson,
    Row,
    Splits,
)
from klom_bench.errors import KlomError, visible
from klom_bench.metrics.estimate import EstimateJson
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.beside import left_over, way
from klom_bench.report.columns import aligned, with_error
from klom_bench.report.remarks import in_all, outcome

Cells = tuple[str, ...]
FEW_POINTS = 100
"""On so small a forget set two points that were not forgotten hide below its P95."""


@dataclass(frozen=True)
class Layout:
    """A table: two lines above it, names for where there is one line, and its rows.

    nothing: of doing nothing. test: of a test, or of an earlier epoch of it.
    """

    head: tuple[Cells, Cells]
    names: Cells
    oracles: Callable[[RecordJson], Cells]
    nothing: Callable[[RecordJson], Cells]
    test: Callable[[RecordJson | EpochJson], Cells]


def table(records: Iterable[Record | NotApplicable]) -> str:
    """The tables that a run of pytest ends with, of the records of `klom_bench.run`.

    Args:
        records: of one task, estimator and numbers of models; those of a forget set one after the
            other.

    Returns:
        Lines of text, to be printed.

    Raises:
        KlomError: there is no record.

    Example:
        >>> from klom_bench import run, table
        >>> text = table(run("digits", "do_nothing", forget_sets=3, models=2))
        >>> text.partition(",")[0]
        '2 unlearned against 2 oracles of digits'
    """
    rows: list[Row] = [
        r.to_json() if isinstance(r, NotApplicable) else r.without_points().to_json()
        for r in records
    ]
    measured = [row for row in rows if "unfit" not in row]
    if not rows:
        raise KlomError("there is no record: nothing was measured")
    lines = [headline(measured[0])] if measured else []
    return "\n".join([*lines, *tables(rows), *in_all(measured)])


def by_headline(rows: Sequence[Row]) -> list[list[str]]:
    """The lines of all tables: one pair for all rows that rest on the same, under its headline."""
    groups: dict[str, list[Row]] = {}
    first = next(headline(row) for row in rows if "unfit" not in row)
    for row in rows:
        groups.setdefault(first if "unfit" in row else headline(row), []).append(row)
    return [[head, *tables(of)] for head, of in groups.items()]


def headline(first: RecordJson) -> str:
    """What every number of a run rests on."""
    estimator, members = first["estimator"], first["members"]
    text = setup(first["task"], members, estimator["name"], estimator["direction"], first["device"])
    if first["looks"]:  # how many there are, rows say
        return f"as many models as settle the gates of {text.partition(' of ')[2]}"
    return text


def setup(task: str, members: Counts, estimator: str, direction: str, device: str) -> str:
    """N, the task, the estimator and the device."""
    return visible(
        f"{members['unlearned']} unlearned against {members['oracle']} oracles of {task}, "
        f"estimator {estimator} (KL {direction}, nats), {device}"
    )


def tables(rows: Sequence[Row]) -> list[str]:
    """Lines: for every forget set the oracles, doing nothing, then a row a test; KLOM first."""
    klom, judged = (
        aligned([*layout.head, *cells(rows, layout)], left=2) for layout in (KLOM, JUDGED)
    )
    return [*klom, "", *judged]


def cells(tests: Sequence[Row], layout: Layout) -> list[Cells]:
    """The rows of a table without its head; n/a where a method does not apply."""
    rows: list[Cells] = []
    columns = len(layout.names) - 2
    groups: dict[tuple[str, str], list[Row]] = {}
    for r in tests:
        groups.setdefault((r["task"], _label(r)), []).append(r)
    for (_, label), together in groups.items():
        measured = [r for r in together if "unfit" not in r]
        heading = [label]
        if measured:
            rows.append((label, "oracles", *_filled(layout.oracles(measured[0]), columns)))
            idle = measured[0]["do_nothing"]["forget"]["mean"]
            if idle is not None or measured[0]["task"] != MARGINS:  # originals are known
                rows.append(("", "do nothing", *_filled(layout.nothing(measured[0]), columns)))
            heading = []
        for r in together:
            if "unfit" in r:
                rows.append((heading.pop() if heading else "", named(r), *["n/a"] * columns))
            elif r["method"] != "do_nothing" or len(together) == 1 or r["verdict"] != "none":
                rows += [_of_test(r, early, layout) for early in r["earlier"]]
                rows.append(_of_test(r, r, layout))
    return rows


def _label(row: Row) -> str:
    """The forget set, and with how many models where that may differ from row to row."""
    if "unfit" in row or not row["looks"]:
        return row["forget_set"]
    n, m = row["members"]["unlearned"], row["members"]["oracle"]
    return f"{row['forget_set']}, N = {n}" + (f" against {m}" if m != n else "")


def named(record: OfMethod) -> str:
    """The method with what is swept of it; * where it sees the oracles, + where it rests on more
    models than those that it unlearns."""
    marks = "*" * record["sees_oracles"] + "+" * bool(record["rests_on"])
    return f"{record['method']}{marks} {record['setting']}".strip()


def _of_test(test: RecordJson, r: RecordJson | EpochJson, layout: Layout) -> Cells:
    epoch = f" epoch {r['epoch']}" if test["earlier"] else ""
    return ("", named(test) + epoch, *_filled(layout.test(r), len(layout.names) - 2))


def _filled(row: Cells, columns: int) -> Cells:
    return (*row, *[""] * (columns - len(row)))


def _judged(r: RecordJson | EpochJson) -> Cells:
    excess = [_with_error(r["excess"].get(split)) for split in SPLITS]
    test = _number(r["retrained"]["p"] if r["retrained"] else None, ".3f")
    seconds, cost = r["seconds"]["unlearn"], r["relative_cost"]["examples"]
    rest = (_number(seconds, ".2f"), _number(cost, ".1%"), test, outcome(r))
    return (*excess, left_over(r), way(r), *_each(r["accuracy"], ".3f"), *rest)


def _klom(r: RecordJson | EpochJson) -> Cells:
    means = [_with_error(r["errors"][split]["mean"]) for split in SPLITS]
    p95s = [_with_ends(r["errors"][split]["p95"]) for split in SPLITS]
    few = r["points"]["forget"] <= FEW_POINTS
    highest = _number(r["highest"]["forget"], ".2f") if few else ""
    return (*means, *_column(r["reverse"], "mean"), *p95s, highest)


JUDGED = Layout(
    (
        (
            "forget set", "", "excess", "", "", "left", "of the", "accuracy", "", "", "unlearn",
            "cost", "like", "",
        ),
        (
            "", "", *SPLITS, "over", "way", *SPLITS, "s", "of retrain", "oracles, p",
            "what it did; gates",
        ),
    ),
    (
        "forget set", "", "excess forget", "excess retain", "excess val", "left over", "of the way",
        "accuracy forget", "accuracy retain", "accuracy val", "unlearn s", "cost of retrain",
        "like oracles, p", "what it did; gates",
    ),
    lambda r: ("0", "0", "0", "0 %", "100 %", *_each(r["accuracy_oracle"], ".3f")),
    lambda r: (
        *(_with_error(r["excess_do_nothing"].get(split)) for split in SPLITS), "100 %", "0 %",
        *_each(r["accuracy_do_nothing"], ".3f"),
    ),
    _judged,
)  # fmt: skip
KLOM = Layout(
    (
        ("forget set", "", "KLOM mean", "", "", "reverse", "", "", "KLOM P95", "", "", "highest"),
        ("", "", *SPLITS, *SPLITS, *SPLITS, "forget"),
    ),
    (
        "forget set", "", "KLOM mean forget", "KLOM mean retain", "KLOM mean val",
        "reverse forget", "reverse retain", "reverse val", "KLOM P95 forget", "KLOM P95 retain",
        "KLOM P95 val", "highest forget",
    ),
    lambda r: (
        *_column(r["floor"], "mean"), *_column(r["floor_reverse"], "mean"),
        *_column(r["floor"], "p95"),
    ),
    lambda r: (
        *_column(r["do_nothing"], "mean"), *_column(r["do_nothing_reverse"], "mean"),
        *_column(r["do_nothing"], "p95"),
    ),
    _klom,
)  # fmt: skip


def _with_error(of: EstimateJson | None) -> str:
    """A value and what the ends of its 95 % interval are away."""
    if of is None or of["value"] is None:
        return "n/a"
    return with_error(of["value"], of["high"])


def _with_ends(of: EstimateJson) -> str:
    """A value and the ends of its interval, which is not symmetric in truth."""
    value = _number(of["value"], ".2f")
    return value if of["low"] is None else f"{value} ({of['low']:.1f}-{of['high']:.1f})"


def _each(values: Numbers, form: str) -> Cells:
    return tuple(_number(values[split], form) for split in SPLITS)


def _column(scores: Splits, statistic: str) -> Cells:
    return tuple(_number(scores[split][statistic], ".2f") for split in SPLITS)


def _number(value: float | None, form: str) -> str:
    return "n/a" if value is None else format(value, form)
