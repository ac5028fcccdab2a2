"""The rows of the table of a page: what is seen, and the same as numbers for a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from klom_bench.cell.gates import EXCESS, LEFTOVER, MARGINS
from klom_bench.cell.record_json import EpochJson, RecordJson, Row, error_of, score_of
from klom_bench.errors import visible
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.remarks import VERDICTS
from klom_bench.report.runs import SavedRun
from klom_bench.report.table import JUDGED, KLOM, Cells, Layout, named

Value = str | int | float | None
NAMED = ("method", "forget set", "epoch", "models", "what it did", "gates")
"""Columns that are always there; the others are of one of these kinds."""
KINDS = {"did": "what it did", "klom": "KLOM"}
METRICS = (
    *(f"{split}_{EXCESS}" for split in SPLITS),
    f"forget_{LEFTOVER}",
    *(f"{reverse}{split}_{of}" for reverse, of in (("", "mean"), ("reverse_", "mean"), ("", "p95"))
      for split in SPLITS),
)  # fmt: skip
"""What a file has with intervals."""


@dataclass(frozen=True)
class Column:
    """A heading in two lines, and which kind of number it is; numbers stand to the right."""

    group: str
    name: str
    kind: str = ""
    number: bool = True


@dataclass(frozen=True)
class Line:
    """A row as it is seen.

    record, of: what was measured, and at which epoch; None of references (oracles, doing nothing)
    and of what does not apply.
    """

    cells: Cells
    record: RecordJson | None = None
    of: RecordJson | EpochJson | None = None
    reference: bool = False


def columns(run: SavedRun) -> tuple[Column, ...]:
    """Of the table of this run: with the task where there are several."""
    first = [Column("", name, number=name in ("epoch", "models")) for name in NAMED]
    if _tasks(run) > 1:
        first.insert(1, Column("", "task", number=False))
    return (*first, *_of_layout(JUDGED, "did", 1), *_of_layout(KLOM, "klom", 0))


def _of_layout(layout: Layout, kind: str, last: int) -> Iterator[Column]:
    """A heading over several columns is told in the first of them only."""
    above, below = (head[2 : len(head) - last] for head in layout.head)
    group = ""
    for over, under in zip(above, below, strict=True):
        group = over or group
        yield Column(group, under, kind)


def lines(run: SavedRun) -> list[Line]:
    """For each forget set the oracles, doing nothing, then the tests, each after its epochs."""
    several = _tasks(run) > 1
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in run.rows:
        groups.setdefault(_group(row), []).append(row)
    return [line for rows in groups.values() for line in _of_group(rows, several)]


def _of_group(rows: Sequence[Row], several: bool) -> Iterator[Line]:
    if measured := [row for row in rows if "unfit" not in row]:
        idle = any(row["method"] == "do_nothing" for row in measured)
        yield from _references(measured[0], several, idle)
    for row in rows:
        if "unfit" in row:
            cells = _named(row, several, named(row), "", "", "does not apply", "n/a")
            yield Line((*cells, *_filled((), JUDGED, 1), *_filled((), KLOM, 0)))
        else:
            for of in (*row["earlier"], row):
                yield Line(_cells(row, of, several), row, of)


def _group(row: Row) -> tuple[str, ...]:
    members = () if "unfit" in row else tuple(map(str, row["members"].values()))
    return (row["task"], row["forget_set"], *members)


def _references(record: RecordJson, several: bool, idle: bool) -> Iterator[Line]:
    """What a perfect method has, and what the originals have, as far as they are known and, where
    doing nothing is a method of the run, not there yet."""
    known = [("oracles", JUDGED.oracles, KLOM.oracles)]
    if not idle and (
        record["task"] != MARGINS or record["do_nothing"]["forget"]["mean"] is not None
    ):
        known.append(("do nothing", JUDGED.nothing, KLOM.nothing))
    for name, judged, klom in known:
        first = _named(record, several, name, "", _models(record), "", "")
        cells = (*_filled(judged(record), JUDGED, 1), *_filled(klom(record), KLOM, 0))
        yield Line((*first, *cells), reference=True)


def _cells(row: RecordJson, of: RecordJson | EpochJson, several: bool) -> Cells:
    word = of["word"] + "?" * of["word_is_provisional"]
    if of["below_floor"]:
        word += f"; below the floor on {' and '.join(of['below_floor'])}"
    verdict = "earlier epoch" if of is not row else VERDICTS.get(row["verdict"], row["verdict"])
    epoch = "" if of["epoch"] is None else str(of["epoch"])
    return (
        *_named(row, several, named(row), epoch, _models(row), word, verdict),
        *_filled(JUDGED.test(of)[:-1], JUDGED, 1),
        *_filled(KLOM.test(of), KLOM, 0),
    )


def _named(row: Row, several: bool, name: str, *cells: str) -> Cells:
    task = (row["task"],) if several else ()
    return tuple(map(visible, (name, *task, row["forget_set"], *cells)))


def _models(record: RecordJson) -> str:
    n, m = record["members"]["unlearned"], record["members"]["oracle"]
    return str(n) if n == m else f"{n}/{m}"


def _filled(cells: Cells, layout: Layout, last: int) -> Cells:
    return (*cells, *[""] * (len(layout.names) - 2 - last - len(cells)))


def _tasks(run: SavedRun) -> int:
    return len({row["task"] for row in run.rows})


def numbers(record: RecordJson, of: RecordJson | EpochJson) -> Mapping[str, Value]:
    """A row as a file has it: to six digits, None where there is none."""
    whole: RecordJson = {**record, **of}
    found: dict[str, Value] = {
        "task": visible(record["task"]),
        "forget_set": visible(record["forget_set"]),
        "method": visible(record["method"]),
        "setting": visible(record["setting"]),
        "epoch": of["epoch"],
        "models": record["members"]["unlearned"],
        "oracles": record["members"]["oracle"],
        "seed": record["seed"],
        "word": of["word"],
        "provisional": int(of["word_is_provisional"]),
        "verdict": record["verdict"] if of is record else "",
    }
    for metric in METRICS:
        error = error_of(whole, metric) or {"low": None, "high": None}
        found |= {
            metric: _short(score_of(whole, metric)),
            f"{metric}_low": _short(error["low"]),
            f"{metric}_high": _short(error["high"]),
        }
    share = whole["nearer"]["forget"]["share"] if "forget" in whole["nearer"] else None
    test = whole["retrained"]
    found |= {
        "forget_share": _short(share["value"]) if share else None,
        "forget_highest": _short(whole["highest"]["forget"]),
        **{f"accuracy_{split}": _short(whole["accuracy"][split]) for split in SPLITS},
        "seconds_unlearn": _short(whole["seconds"]["unlearn"]),
        "cost_examples": _short(whole["relative_cost"]["examples"]),
        "retrained_p": _short(test["p"] if test else None),
        "floor_mean": _short(record["floor"]["forget"]["mean"]),
        "floor_p95": _short(record["floor"]["forget"]["p95"]),
        "do_nothing_forget_mean": _short(record["do_nothing"]["forget"]["mean"]),
        "do_nothing_forget_p95": _short(record["do_nothing"]["forget"]["p95"]),
    }
    return found


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
