"""Looks at what a file says of a record before it is believed: a damaged one is told, not shown."""

from collections.abc import Mapping
from typing import Any

from klom_bench.metrics.summary import SPLITS

MOST = 1e6
"""No score and no cost comes near."""
NAMES = (
    "task",
    "forget_set",
    "forget_set_sha256",
    "method",
    "setting",
    "device",
    "version",
    "word",
)
OF_SPLITS = (
    "scores", "reverse", "do_nothing", "do_nothing_reverse", "floor", "floor_reverse", "quantiles",
    "accuracy", "points", "perfect", "nowhere", "highest", "accuracy_oracle", "accuracy_do_nothing",
)  # fmt: skip
OTHERS = {"relative_cost": ("time", "examples"), "seconds": ("unlearn", "per_member", "retrain")}
ERRORS = ("mean", "p95", "reverse_mean", "reverse_p95")
ESTIMATES = ("errors", "excess", "excess_do_nothing")


def refuse_damaged(record: Mapping[str, Any]) -> None:
    """TypeError where a name is no text, a count no whole number, or a number not what it can be;
    KeyError where a number is not there.

    record: one that `Record.from_json` reads.
    """
    for name in NAMES:
        if not isinstance(record[name], str):
            raise TypeError(f"{name} is no text but {record[name]!r:.40}")
    for name, count in (("seed", record["seed"]), *record["members"].items()):
        if type(count) is not int or count < 0:
            raise TypeError(f"{name} is no whole number but {count!r:.40}")
    if not isinstance(record["sees_oracles"], bool):
        raise TypeError(
            f"sees_oracles is neither true nor false but {record['sees_oracles']!r:.40}"
        )
    for name, kind in (("tuning", dict), ("epoch", int), ("rests_on", int)):
        if record[name] is not None and type(record[name]) is not kind:
            raise TypeError(f"{name} is {record[name]!r:.40}")
    keys = {**dict.fromkeys(OF_SPLITS, SPLITS), **OTHERS}
    for name, parts in keys.items():
        _look_at(name, {part: record[name][part] for part in parts}, 0)
    for split in SPLITS:
        _look_at("errors", {name: record["errors"][split][name] for name in ERRORS}, -MOST)
    for name in ESTIMATES:
        _look_at(name, record[name], -MOST)
    for earlier in record["earlier"]:
        refuse_damaged({**record, **earlier, "earlier": ()})


def _look_at(where: str, value: Any, least: float) -> None:
    if isinstance(value, dict):
        for name, of in value.items():
            _look_at(f"{where} {name}", of, least)
    elif value is not None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not (number and least <= value <= MOST):
            raise TypeError(f"{where} is no number that it can be but {value!r:.40}")
