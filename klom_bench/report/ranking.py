"""The methods of one run in order, with ties where they cannot be told apart."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from klom_bench.cell.baseline import Baseline
from klom_bench.cell.comparing import OF_KLOM, compared, estimate_of
from klom_bench.cell.gates import FREE_OF_N, METRICS
from klom_bench.cell.record_json import Compared, score_of
from klom_bench.errors import KlomError
from klom_bench.metrics.comparison import Comparison, surely_different
from klom_bench.report.columns import aligned
from klom_bench.report.differences import in_json

USUAL = ("forget_excess",)


@dataclass(frozen=True)
class Place:
    """A method among others: from which rank to which, and its number."""

    method: str
    first: int
    last: int
    value: float
    away: float

    @property
    def rank(self) -> str:
        """In words."""
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True)
class Group:
    """The methods of one forget set by one metric, the lowest first, and all pairs of them.

    pairs: which two, the lower one first; the second less the first; whether they surely differ.
    """

    task: str
    forget_set: str
    metric: str
    places: list[Place]
    pairs: list[tuple[tuple[str, str], Comparison, bool]]


class Ranking:
    """The methods of each forget set by each metric; KlomError where there is nothing to rank."""

    def __init__(self, run: Baseline, metrics: Sequence[str]) -> None:
        self._path = run.path
        metrics = tuple(dict.fromkeys(metrics)) or USUAL
        for metric in metrics:
            if METRICS[metric][2] not in (*FREE_OF_N, "mean"):
                raise KlomError(
                    f"--metric {metric}: no error is known of it, so that nobody can be ranked; "
                    "excess, means and what is left over have one"
                )
        self._groups = [
            ranked(records, metric)
            for metric in metrics
            for records in _together(run, metric)
            if len(records) > 1
        ]
        if not self._groups:
            raise KlomError(
                f"{run.path} has no forget set with two methods that have {metrics[0]}: there is "
                "nothing to rank. Two files are compared test by test"
            )

    def lines(self) -> list[str]:
        """A table a forget set and metric."""
        lines = []
        for group in self._groups:
            lines.append(f"{group.forget_set} of {group.task}, {group.metric}:")
            rows = [(p.method, f"{p.value:.4f} ±{p.away:.4f}", p.rank) for p in group.places]
            lines += [*aligned([("method", group.metric, "rank"), *rows], left=1), ""]
        if any("*" in place.method for group in self._groups for place in group.places):
            lines.append("*: sees the oracles that it is scored against: an upper bound")
        return [
            *lines,
            "lower is better; rank 2-4 of 5: one is surely better, one surely worse, two cannot be "
            "told from it",
            "sure: in 95 % of forget sets no pair is told wrongly (Holm); pairs on the same models "
            "are compared model by model",
        ]

    def as_json(self) -> dict[str, Any]:
        """One plain JSON object."""
        return {
            "schema": 1,
            "run": str(self._path),
            "rankings": [
                {
                    "task": group.task,
                    "forget_set": group.forget_set,
                    "metric": group.metric,
                    "methods": [
                        {"method": p.method, "first": p.first, "last": p.last, "value": p.value}
                        for p in group.places
                    ],
                    "pairs": [
                        {"methods": [*names], **_pair(found), "sure": sure}
                        for names, found, sure in group.pairs
                    ],
                }
                for group in self._groups
            ],
        }


def _pair(found: Comparison) -> dict[str, Any]:
    of = in_json(found)
    del of["before"], of["now"], of["change"]
    return of


def _together(run: Baseline, metric: str) -> list[list[Compared]]:
    """Records of one forget set that have a number, and whose settings agree."""
    found: dict[str, list[Compared]] = {}
    for record in run.tests.values():
        if score_of(record, metric) is not None:
            settings = [record[key] for key in OF_KLOM]
            key = json.dumps([record["task"], record["forget_set"], *settings], sort_keys=True)
            found.setdefault(key, []).append(record)
    return [*found.values()]


def ranked(records: Sequence[Compared], metric: str) -> Group:
    """Records of one forget set, all with a number and the same settings, the lowest first."""
    records = sorted(records, key=lambda record: score_of(record, metric) or 0.0)
    names, count = [_name(record) for record in records], len(records)
    pairs = [*combinations(range(count), 2)]
    found = [compared(records[j], records[i], metric) for i, j in pairs]
    sure = surely_different([comparison.difference for comparison in found])
    surely = [pair for pair, yes in zip(pairs, sure, strict=True) if yes]
    places = []
    for k, (name, record) in enumerate(zip(names, records, strict=True)):
        better, worse = (sum(pair[side] == k for pair in surely) for side in (1, 0))
        estimate = estimate_of(record, metric)
        away = estimate.interval()[1] - estimate.value
        places.append(Place(name, 1 + better, count - worse, estimate.value, away))
    named = [(names[i], names[j]) for i, j in pairs]
    first = records[0]
    together = [*zip(named, found, sure, strict=True)]
    return Group(first["task"], first["forget_set"], metric, places, together)


def _name(record: Compared) -> str:
    """The method and what is swept of it; * where it is known to see the oracles."""
    marks = "*" * bool(record.get("sees_oracles"))
    return f"{record['method']}{marks} {record['setting']}".strip()
