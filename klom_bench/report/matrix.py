"""Methods by forget sets, from benchmark JSONs: Markdown for a README or a paper."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, Literal, final

from klom_bench.cell.gates import MARGINS
from klom_bench.cell.record_json import Counts, Numbers, OfMethod, OfTest, Splits
from klom_bench.errors import KlomError, visible
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.markdown import code, plain
from klom_bench.report.table import named, setup

MOST = 1e6
"""No score and no cost comes near."""


@final
class Shown(OfMethod):
    """What is shown of a record."""

    members: Counts
    estimator: dict[str, str]
    device: str
    seed: int
    relative_cost: Numbers
    scores: Splits
    floor: Splits
    do_nothing: Splits


@final
class Failed(OfTest):
    """In place of a record, where a test failed before it was scored."""

    failed: Literal[True]


def records_in(paths: Iterable[Path]) -> list[Shown | Failed]:
    """The KLOM records of benchmark JSONs; KlomError for files that have none, or damaged ones."""
    found: list[Shown | Failed] = []
    for path in paths:
        try:
            mine = [_of(benchmark) for benchmark in json.loads(path.read_bytes())["benchmarks"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise KlomError(
                f"{path} is not a file of --benchmark-json of a KLOM run "
                f"({type(error).__name__}: {error})"
            ) from error
        records = [record for record in mine if record is not None]
        if all("failed" in record for record in records):
            raise KlomError(f"{path} has no KLOM test: run pytest with --klom-method")
        found += records
    return found


def _of(benchmark: Any) -> Shown | Failed | None:
    """The record of one test, what stands for it where it failed, or None: of margins, too, which
    are of no method."""
    if "klom" in benchmark["extra_info"]:
        record = benchmark["extra_info"]["klom"]
        return None if record["method"] == MARGINS else _checked(record)
    params = benchmark.get("params")
    return _failed(params) if params and "klom_method" in params else None


def _failed(params: Any) -> Failed:
    method, _, setting = _text(params["klom_method"]).partition(":")
    return {
        "task": _text(params["klom_task"]),
        "forget_set": _text(params["klom_forget_set"]),
        "method": method,
        "setting": setting,
        "failed": True,
    }


def _checked(record: Any) -> Shown:
    """The parts of a record that are shown, or an exception that says what is wrong with it."""
    setting, estimator, rests_on = (
        record.get("setting"),
        record["estimator"],
        record.get("rests_on"),
    )
    return {
        "task": _text(record["task"]),
        "forget_set": _text(record["forget_set"]),
        "method": _text(record["method"]),
        "setting": _text(setting) if setting else "",
        "device": _text(record["device"]),
        "members": {
            "oracle": _whole(record["members"]["oracle"]),
            "unlearned": _whole(record["members"]["unlearned"]),
        },
        "estimator": {
            "name": _text(estimator["name"]),
            "direction": _text(estimator["direction"]),
        },
        "seed": _whole(record["seed"]),
        "sees_oracles": bool(record.get("sees_oracles")),
        "rests_on": int(bool(rests_on)) or None,
        "relative_cost": {"examples": _number(record["relative_cost"]["examples"])},
        "scores": _p95s(record["scores"]),
        "floor": _p95s(record["floor"]),
        "do_nothing": _p95s(record["do_nothing"]),
    }


def _p95s(scores: Any) -> Splits:
    return {split: {"p95": _number(scores[split]["p95"])} for split in SPLITS}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is expected, not {value!r:.40}")
    return visible(value)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"a whole number is expected, not {value!r:.40}")
    return value


def _number(value: Any) -> float | None:
    """None where there is none; nan and the like are no JSON."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise TypeError(f"a number from 0 on is expected, not {value!r:.40}")
    return float(value)


def matrix(every: Sequence[Shown | Failed]) -> str:
    """P95 of forget / retain / val, a row a method and setting, a column a forget set; the cost.

    KlomError where records cannot stand in one table.
    """
    records = [record for record in every if "failed" not in record]
    failures = {(r["method"], r["setting"], r["forget_set"]) for r in every if "failed" in r}
    _refuse_to_mix(records)
    sets = list(dict.fromkeys(record["forget_set"] for record in records))
    rows: dict[str, dict[str, Shown]] = {}
    for record in records:
        row = rows.setdefault(named(record), {})
        if record["forget_set"] in row:
            raise KlomError(
                f"{named(record)} on {record['forget_set']} is there twice: give files of one run"
            )
        row[record["forget_set"]] = record
    heads = ["method", *(plain(name.replace("forget_set_", "set ")) for name in sets), "cost"]
    lines = [_line(heads), _line(["---"] * len(heads))]
    first = {name: next(r for r in records if r["forget_set"] == name) for name in sets}
    lines.append(_line(["floor", *(_p95(first[name]["floor"]) for name in sets), ""]))
    if not any(name.startswith("do_nothing") for name in rows):
        lines.append(_line(["`do_nothing`", *(_p95(first[n]["do_nothing"]) for n in sets), "0%"]))
    order = list(dict.fromkeys((r["method"], r["setting"]) for r in every))
    for name, row in sorted(rows.items(), key=lambda of: order.index(_test(of[1]))):
        costs = [r["relative_cost"]["examples"] for r in row.values()]
        ended = {n for n in sets if (*_test(row), n) in failures}
        cells = [
            _p95(row[n]["scores"]) if n in row else "failed" if n in ended else "n/a" for n in sets
        ]
        known = [cost for cost in costs if cost is not None]
        lines.append(_line([code(name), *cells, f"{mean(known):.0%}" if known else "n/a"]))
    legend = {
        "*": "sees the oracles that it is scored against: an upper bound",
        "+": "rests on models trained on random halves, which are not in its cost",
    }
    marks = [f"`{m}`: {text}." for m, text in legend.items() if any(f"{m}" in n for n in rows)]
    return (
        "\n".join([plain(_headline(records[0])), "", *lines, *([""] if marks else []), *marks])
        + "\n"
    )


def _headline(first: Shown) -> str:
    name, direction = first["estimator"]["name"], first["estimator"]["direction"]
    return setup(first["task"], first["members"], name, direction, first["device"])


def _refuse_to_mix(records: Sequence[Shown]) -> None:
    settings = [
        {"task": r["task"], "members": r["members"], "estimator": r["estimator"], "seed": r["seed"]}
        for r in records
    ]
    for key in settings[0]:
        different = {json.dumps(of[key], sort_keys=True) for of in settings}
        if len(different) > 1:
            raise KlomError(f"the records differ in {key}: {', '.join(sorted(different))}")


def _test(row: Mapping[str, Shown]) -> tuple[str, str]:
    record = next(iter(row.values()))
    return record["method"], record["setting"]


def _p95(scores: Splits) -> str:
    values = (scores[split]["p95"] for split in SPLITS)
    return " / ".join("n/a" if v is None else f"{v:.1f}" for v in values)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
