"""Methods by forget sets: what stands in which cell, whatever it is written as."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from klom_bench.cell.gates import EXCESS, MARGINS
from klom_bench.cell.record_json import OfTest, RecordJson
from klom_bench.errors import KlomError
from klom_bench.report.paper.best import best
from klom_bench.report.paper.caption import caption
from klom_bench.report.paper.scores import Scores, floor, nothing, scored
from klom_bench.report.runs import SavedRun
from klom_bench.report.table import named

FAILED, NONE = "failed", "n/a"
Test = tuple[str, str, str]
"""Method, setting, forget set."""


@dataclass(frozen=True)
class Cell:
    """One test: its scores, or a word where there are none. best: of its forget set."""

    scores: Scores | str
    best: bool = False


@dataclass(frozen=True)
class Line:
    """A row. cost: per cent of training anew."""

    name: str
    cells: tuple[Cell, ...]
    cost: str


@dataclass(frozen=True)
class Table:
    """One that can be read alone. above: floor and doing nothing. methods: a line each."""

    task: str
    metric: str
    caption: str
    sets: tuple[str, ...]
    above: tuple[Line, ...]
    methods: tuple[Line, ...]


def tables(runs: Sequence[SavedRun], metric: str | None = None) -> list[Table]:
    """One for all tests of a task, estimator, seed and number of models, in the order of the files.

    metric: of `scores.METRICS`; None: excess, and P95 where no record has that.

    Raises:
        KlomError: nothing was scored, or a test is there twice.
    """
    records = [r for run in runs for r in run.records if r["method"] != MARGINS]
    if not records:
        raise KlomError("no test was scored, so there is no table; --format csv lists them all")
    known = any(record["excess"] for record in records)
    if metric == EXCESS and not known:
        raise KlomError("excess needs five models and oracles at least: ask for --metric p95")
    metric = metric or (EXCESS if known else "p95")
    groups: dict[str, list[RecordJson]] = {}
    for record in records:
        groups.setdefault(_setting(record, metric), []).append(record)
    return [_table(group, _without_score(group, runs), metric) for group in groups.values()]


def _setting(record: RecordJson, metric: str) -> str:
    """What all numbers of a table have in common; where N varies by test, excess needs no N."""
    as_needed = record["looks"] is not None and metric == EXCESS
    members: Any = "as needed" if as_needed else record["members"]
    parts = [record["task"], record["estimator"], record["seed"], members]
    return json.dumps(parts, sort_keys=True)


def _without_score(records: Sequence[RecordJson], runs: Iterable[SavedRun]) -> dict[Test, str]:
    """Tests of the same task and runs that have no score, and the word for that."""
    task, mine = records[0]["task"], {id(record) for record in records}
    found: dict[Test, str] = {}
    for run in runs:
        of_task = [record for record in run.records if record["task"] == task]
        if not of_task or any(id(record) in mine for record in of_task):
            unfit = (row for row in run.rows if "unfit" in row)
            found |= {_test(row): NONE for row in unfit if row["task"] == task}
            found |= {_test(row): FAILED for row in run.failed if row["task"] == task}
    return found


def _table(records: Sequence[RecordJson], words: Mapping[Test, str], metric: str) -> Table:
    tests = _by_test(records)
    by_set: dict[str, list[RecordJson]] = {name: [] for *_, name in (*tests, *words)}
    for record in records:
        by_set[record["forget_set"]].append(record)
    chosen = {id(record) for of_set in by_set.values() for record in best(of_set, metric)}

    def above(name: str, scores: Callable[[RecordJson, str], Scores], cost: str) -> Line:
        cells = (Cell(scores(of_set[0], metric) if of_set else NONE) for of_set in by_set.values())
        return Line(name, tuple(cells), cost)

    def of_method(method: str, setting: str) -> Line:
        mine = {name: tests.get((method, setting, name)) for name in by_set}
        cells = tuple(
            Cell(scored(record, metric), id(record) in chosen)
            if record
            else Cell(words.get((method, setting, name), NONE))
            for name, record in mine.items()
        )
        measured = [record for record in mine.values() if record]
        costs = [record["relative_cost"]["examples"] for record in measured]
        known = [cost for cost in costs if cost is not None]
        name = named(measured[0]) if measured else f"{method} {setting}".strip()
        return Line(name, cells, f"{mean(known):.0%}" if known else NONE)

    shown = [test for test, record in tests.items() if not _is_nothing(record)]
    methods = [of_method(*of) for of in dict.fromkeys(of[:2] for of in (*shown, *words))]
    missing = {
        cell.scores for line in methods for cell in line.cells if isinstance(cell.scores, str)
    }
    return Table(
        records[0]["task"],
        metric,
        caption(records, metric, bool(chosen), missing),
        tuple(by_set),
        (above("floor", floor, ""), above("do nothing", nothing, "0%")),
        tuple(methods),
    )


def _by_test(records: Sequence[RecordJson]) -> dict[Test, RecordJson]:
    """KlomError where a test is there twice, or two forget sets have one name."""
    found: dict[Test, RecordJson] = {}
    sets: dict[str, str] = {}
    for record in records:
        name, sha = record["forget_set"], record["forget_set_sha256"]
        if _test(record) in found:
            raise KlomError(
                f"{named(record)} on {name} is there twice: give files of one run, or compare two "
                "with `klom compare`"
            )
        if sets.setdefault(name, sha) != sha:
            raise KlomError(f"{name} stands for two sets of points: give files of one of them")
        found[_test(record)] = record
    return found


def _test(of: OfTest) -> Test:
    return of["method"], of["setting"], of["forget_set"]


def _is_nothing(record: RecordJson) -> bool:
    """Whether its row would be that of doing nothing once more."""
    return record["method"] == "do_nothing" and record["scores"] == record["do_nothing"]
