"""Methods by forget sets, from benchmark JSONs: Markdown for a README or a paper."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from klom_bench.errors import KlomError, visible
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.markdown import code, plain
from klom_bench.report.table import headline, named

Json = Mapping[str, Any]
MOST = 1e6
"""No score and no cost comes near."""


def records_in(paths: Iterable[Path]) -> list[Json]:
    """The KLOM records of benchmark JSONs; KlomError for files that have none, or damaged ones."""
    found: list[Json] = []
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


def _of(benchmark: Any) -> Json | None:
    """The record of one test, what stands for it where it failed, or None."""
    if "klom" in benchmark["extra_info"]:
        return _checked(benchmark["extra_info"]["klom"])
    params = benchmark.get("params")
    return _failed(params) if params and "klom_method" in params else None


def _failed(params: Json) -> Json:
    """In place of the record of a test that failed before it was scored."""
    method, _, setting = _text(params["klom_method"]).partition(":")
    names = {"forget_set": _text(params["klom_forget_set"]), "method": method, "setting": setting}
    return {"task": _text(params["klom_task"]), **names, "failed": True}


def _checked(record: Any) -> Json:
    """The parts of a record that are shown, or an exception that says what is wrong with it."""
    setting = record.get("setting")
    return {
        **{name: _text(record[name]) for name in ("task", "forget_set", "method", "device")},
        "setting": _text(setting) if setting else "",
        "members": {name: _whole(record["members"][name]) for name in ("oracle", "unlearned")},
        "estimator": {name: _text(record["estimator"][name]) for name in ("name", "direction")},
        "seed": _whole(record["seed"]),
        "sees_oracles": bool(record.get("sees_oracles")),
        "rests_on": bool(record.get("rests_on")),
        "relative_cost": {"examples": _number(record["relative_cost"]["examples"])},
        **{
            name: {split: {"p95": _number(record[name][split]["p95"])} for split in SPLITS}
            for name in ("scores", "floor", "do_nothing")
        },
    }


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


def matrix(every: Sequence[Json]) -> str:
    """P95 of forget / retain / val, a row a method and setting, a column a forget set; the cost.

    KlomError where records cannot stand in one table.
    """
    records = [record for record in every if "failed" not in record]
    failures = {(r["method"], r["setting"], r["forget_set"]) for r in every if "failed" in r}
    for key in ("task", "members", "estimator", "seed"):
        different = {json.dumps(record[key], sort_keys=True) for record in records}
        if len(different) > 1:
            raise KlomError(f"the records differ in {key}: {', '.join(sorted(different))}")
    sets = list(dict.fromkeys(record["forget_set"] for record in records))
    rows: dict[str, dict[str, Json]] = {}
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
        "\n".join([plain(headline(records)), "", *lines, *([""] if marks else []), *marks]) + "\n"
    )


def _test(row: Mapping[str, Json]) -> tuple[str, str]:
    record = next(iter(row.values()))
    return record["method"], record["setting"]


def _p95(scores: Json) -> str:
    values = (scores[split]["p95"] for split in SPLITS)
    return " / ".join("n/a" if v is None else f"{v:.1f}" for v in values)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
