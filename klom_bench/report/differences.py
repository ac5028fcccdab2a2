"""Two runs beside each other: what is better, what is worse, and what would have been seen."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from klom_bench.cell.baseline import Baseline, Test, few
from klom_bench.cell.comparing import changed_hyperparameters, compared, settings_that_differ
from klom_bench.cell.record_json import Compared, name_of, score_of
from klom_bench.errors import KlomError
from klom_bench.metrics.comparison import NOTHING, Change, Comparison
from klom_bench.metrics.summary import SPLITS, plain
from klom_bench.report.columns import aligned

USUAL = tuple(f"{split}_{of}" for of in ("excess", "mean") for split in SPLITS)
CHANGES: tuple[Change, ...] = ("better", "worse", "no difference")
HEAD = ("test", "metric", "before", "now", "difference", "seen from", "")


class Differences:
    """What both files have, by test and metric; KlomError where that is nothing."""

    def __init__(self, before: Baseline, now: Baseline, metrics: Sequence[str]) -> None:
        self._before, self._now = before, now
        self._metrics = tuple(dict.fromkeys(metrics)) or USUAL
        if not self._both:
            raise KlomError(
                f"{before.path} and {now.path} share no test: the first has {_few(before.tests)}, "
                f"the second {_few(now.tests)}"
            )
        if not self._found:
            raise KlomError(
                f"{before.path} and {now.path} have nothing to compare: {'; '.join(self._open())}"
            )

    @cached_property
    def _both(self) -> list[Test]:
        return [test for test in self._now.tests if test in self._before.tests]

    def _pair(self, test: Test) -> tuple[Compared, Compared]:
        return self._now.tests[test], self._before.tests[test]

    @cached_property
    def _found(self) -> list[tuple[Test, str, Comparison]]:
        return [
            (test, metric, compared(*self._pair(test), metric))
            for test in self._both
            for metric in self._metrics
            if all(score_of(record, metric) is not None for record in self._pair(test))
            and not settings_that_differ(*self._pair(test), [metric])
        ]

    @cached_property
    def _same(self) -> list[Test]:
        """Tests of which no number changed."""
        changed = {test for test, _, found in self._found if found.now != found.before}
        return [t for t in dict.fromkeys(test for test, *_ in self._found) if t not in changed]

    def lines(self) -> list[str]:
        """A table, and what it does not say."""
        return [
            f"before: {self._before.path}",
            f"now:    {self._now.path}",
            "",
            *self._table(),
            *self._unchanged(),
            "",
            *self._counts(),
            *self._others(),
        ]

    def said(self) -> list[str]:
        """What there is beside the rows."""
        return [*self._unchanged(), *self._counts(), *self._others()]

    def _counts(self) -> Iterator[str]:
        changes = Counter(found.change for *_, found in self._found)
        unknown = changes.pop(None, 0)
        if changes:
            words = ", ".join(f"{changes[word]} {word}" for word in CHANGES)
            yield f"{words}; lower is better, and by chance 1 row in 20 says one or the other"
            yield "±: half of the 95 % interval; seen from: such a change shows in 8 of 10 runs"
        shared = Counter(found.paired for *_, found in self._found if found.change)
        for of, count in shared.items():
            how = "unpaired" if of == NOTHING else f"paired: the same {of}"
            yield f"{count} of {len(self._found)} rows are {how}"
        if unknown:
            yield f"of {unknown} of {len(self._found)} rows no error is known"

    def _table(self) -> Iterator[str]:
        """Rows of what changed; the name of a test stands in the first of its rows."""
        rows = [[*row] for row in self.rows()]
        if not rows:
            return
        names = [name for name, *_ in rows]
        for row, before in zip(rows[1:], names, strict=False):
            row[0] = "" if row[0] == before else row[0]
        yield from aligned([HEAD, *rows], left=2)

    def _unchanged(self) -> Iterator[str]:
        if self._same:
            rest = f"{len(self._same)} of {len(self._both)} tests"
            yield f"the same in every number: {rest} ({_few(self._same)})"

    def rows(self) -> Iterator[Sequence[str]]:
        """Of what changed: the columns of `HEAD`."""
        for test, metric, found in self._found:
            if test not in self._same:
                yield "-".join(test), metric, *shown(found)

    def _others(self) -> Iterator[str]:
        for test in self._both:
            if changed := changed_between(*self._pair(test)):
                yield f"changed: {'-'.join(test)}: {', '.join(changed)}"
        yield from self._open()
        for mine, other in ((self._before, self._now), (self._now, self._before)):
            if only := [test for test in mine.tests if test not in other.tests]:
                yield f"only in {mine.path}: {_few(only)}"

    def _open(self) -> list[str]:
        """What of tests that both have is not compared, and why."""
        found: dict[str, list[str]] = {}
        for test in self._both:
            for metric in self._metrics:
                different = settings_that_differ(*self._pair(test), [metric])
                if different:
                    found.setdefault(" and ".join(different), []).append(metric)
        return [
            f"not compared: {', '.join(dict.fromkeys(metrics))} where {what} differ"
            for what, metrics in found.items()
        ]

    def as_json(self) -> dict[str, Any]:
        """One plain JSON object; null where there is no number."""
        return {
            "schema": 1,
            "before": str(self._before.path),
            "now": str(self._now.path),
            "comparisons": [
                {**_named(self._now.tests[test]), "metric": metric, **in_json(found)}
                for test, metric, found in self._found
            ],
            "changed": {
                name_of(self._now.tests[t]): changed_between(*self._pair(t)) for t in self._both
            },
            "not_compared": self._open(),
            "only_before": ["-".join(t) for t in self._before.tests if t not in self._now.tests],
            "only_now": ["-".join(t) for t in self._now.tests if t not in self._before.tests],
        }


def changed_between(now: Compared, before: Compared) -> list[str]:
    """Hyperparameters, and the epoch, that were others."""
    epochs = [record["epoch"] for record in (before, now)]
    other = None not in epochs and epochs[0] != epochs[1]
    return [
        *changed_hyperparameters(now, before),
        *[f"epoch {epochs[0]} -> {epochs[1]}"] * other,
    ]


def shown(found: Comparison) -> tuple[str, str, str, str, str]:
    """Before, now, the difference, what would have been seen, and the word."""
    numbers = f"{found.before:.4f}", f"{found.now:.4f}"
    away = found.difference.interval()[1] - found.difference.value
    if found.change is None:
        return *numbers, f"{found.difference.value:+.4f}", "", ""
    return (
        *numbers,
        f"{found.difference.value:+.4f} ±{away:.4f}",
        f"{found.smallest:.4f}",
        found.change,
    )


def in_json(found: Comparison) -> dict[str, Any]:
    """A comparison as plain values."""
    return {
        "before": plain(found.before),
        "now": plain(found.now),
        "difference": found.difference.as_json(),
        "smallest": plain(found.smallest),
        "paired": found.paired,
        "change": found.change,
    }


def _named(record: Compared) -> dict[str, str]:
    return {
        "task": record["task"],
        "forget_set": record["forget_set"],
        "method": record["method"],
        "setting": record["setting"],
    }


def _few(tests: Any) -> str:
    return few(map("-".join, tests))
