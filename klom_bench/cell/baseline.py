"""The scores of an earlier run, and how far a later one may rise above them."""

import errno
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from klom_bench.cell.comparing import (
    changed_hyperparameters,
    compared,
    pairing_in,
    settings_that_differ,
)
from klom_bench.cell.gates import FREE_OF_N, LEFTOVER, METRICS, Earlier, Gate, Rise
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import (
    Asked,
    Compared,
    OfTest,
    RecordJson,
    name_of,
    score_of,
    test_of,
)
from klom_bench.errors import KlomError, unknown
from klom_bench.files.atomic import write_whole

SCHEMA = 1
HIGHEST = 100.0  # nats; no estimator comes near
KEPT = tuple(sorted(Compared.__annotations__))
Test = tuple[str, str, str]
"""Task, forget set and method: what a score belongs to, wherever its test lies."""


@dataclass(frozen=True)
class Regression:
    """How far a score may rise: a share of what it was, or an amount in nats."""

    amount: float
    relative: bool

    def __str__(self) -> str:
        return f"{self.amount:g}%" if self.relative else f"{self.amount:g}"

    def limit(self, before: float) -> float:
        """The highest score that is no regression."""
        return before + (abs(before) * self.amount / 100 if self.relative else self.amount)

    def factor(self, before: float) -> float:
        """What of that is a multiple of the earlier score, whose error grows with it."""
        return 1 + (math.copysign(self.amount / 100, before) if self.relative else 0)


@dataclass(frozen=True)
class Baseline:
    """The records of an earlier run, as far as they are compared."""

    path: Path
    tests: Mapping[Test, Compared]

    def refuse_other_settings(self, asked: Sequence[Asked], metrics: Collection[str]) -> None:
        """KlomError where tests of both runs cannot be compared by these metrics, or, without any,
        not by all."""
        for now in asked:
            before = self.tests.get(test_of(now))
            if before is None:
                continue
            different = [
                f"{key} is {_shown(before[key])} there, {_shown(now[key])} is asked for"
                for key in settings_that_differ(now, before, metrics)
            ]
            if different:
                other = now["forget_set_sha256"] != before["forget_set_sha256"]
                raise KlomError(
                    f"the baseline {self.path} does not fit {name_of(now)}: "
                    f"{'; '.join(different)}. Ask for the same, or make it anew with "
                    "--klom-save-baseline" + "; excess alone needs neither" * (not other)
                )

    def refuse_strangers(self, asked: Collection[Test]) -> None:
        """KlomError where this run has none of its tests: nothing would be compared."""
        if not any(test in self.tests for test in asked):
            raise KlomError(
                f"the baseline {self.path} shares no test with this run, so nothing would be held "
                f"against it: it has {few(map('-'.join, self.tests))}; "
                f"this run has {few(map('-'.join, asked)) or 'no KLOM test'}"
            )

    def gates(
        self,
        record: Record,
        allowed: Mapping[str, Regression],
        sure: Callable[[str], float],
        perfect: Callable[[str], float | None],
    ) -> tuple[Gate, ...]:
        """What the baseline asks of a record; nothing where it does not have the test.

        sure, perfect: by metric, how sure a gate must be, and what `Gate` has of chance.
        """
        now = record.without_points().to_json()
        before = self.tests.get(test_of(now))
        if before is None:
            return ()
        if before["epoch"] not in (None, now["epoch"]):
            raise KlomError(
                f"the baseline {self.path} has epoch {before['epoch']} of {name_of(now)}, and this "
                f"run epoch {now['epoch']}: ask for the same with --klom-epochs"
            )
        changed = changed_hyperparameters(now, before)
        found = []
        for metric, regression in sorted(allowed.items()):
            value = score_of(before, metric)
            if value is None:
                raise KlomError(
                    f"the baseline {self.path} has no number for {metric} of {name_of(before)}: "
                    "there is nothing to compare with"
                )
            limit = regression.limit(value)
            rise = _rise(now, before, metric, limit, regression.factor(value))
            earlier = Earlier(value, str(regression), str(self.path), tuple(changed), rise)
            found.append(record.gate(metric, limit, perfect(metric), earlier, sure(metric)))
        return tuple(found)


def load(path: Path) -> Baseline:
    """A benchmark JSON of an earlier run, or what `save` wrote; KlomError for anything else."""
    try:
        content = json.loads(path.read_bytes())
        if "klom_baseline" in content:
            if content["klom_baseline"] != SCHEMA:
                raise KlomError(
                    f"the baseline {path} is of another version ({content['klom_baseline']!r}, not "
                    f"{SCHEMA}): make it anew with --klom-save-baseline"
                )
            records = list(content["tests"].values())
        else:
            benchmarks = [b.get("extra_info", {}) for b in content["benchmarks"]]
            records = [info["klom"] for info in benchmarks if "klom" in info]
        tests = one_a_test([_checked(record) for record in records])
    except OSError as error:
        raise KlomError(
            f"the baseline {path} cannot be read ({error.strerror}): a run with "
            "--klom-save-baseline makes one"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KlomError(
            f"{path} is not a baseline ({type(error).__name__}: {error}): give a file of "
            "--klom-save-baseline, or one of --benchmark-json of a run with --klom-method"
        ) from error
    if not tests:
        raise KlomError(f"the baseline {path} has no KLOM test: nothing would be held against it")
    return Baseline(path, tests)


def save(path: Path, records: Sequence[Compared]) -> None:
    """Write the records' scores, sorted, a number a line, so that changes show in a diff.

    OSError where the file cannot be written; KlomError where records of one test differ.
    """
    path = path.resolve()  # a link stays one
    if path.exists() and not path.is_file():
        raise FileExistsError(errno.EEXIST, "it is there, and not a file")
    kept = one_a_test(records).values()
    tests = {name_of(r): {key: value for key, value in r.items() if key in KEPT} for r in kept}
    content = {"klom_baseline": SCHEMA, "tests": tests}
    write_whole(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def one_a_test(records: Sequence[Compared]) -> dict[Test, Compared]:
    """Records by test; KlomError where two of one test differ, so that one would be lost."""
    found: dict[Test, Compared] = {}
    for record in records:
        first = found.setdefault(test_of(record), record)
        if any(first.get(key) != record.get(key) for key in KEPT):
            raise KlomError(
                f"two records of {name_of(record)} differ, and one is kept a task, forget set, "
                "method and setting: give methods that differ names of their own"
            )
    return found


def checked_regression(metric: str, text: str) -> Regression:
    """The regression allowed by `10%` or `0.2`; KlomError for anything else."""
    if metric not in METRICS:
        raise KlomError(f"--klom-max-regression: {unknown('score', metric, METRICS)}")
    try:
        amount = float(text.removesuffix("%"))
    except ValueError:
        amount = float("nan")
    if not 0 <= amount < float("inf"):
        raise KlomError(
            f"--klom-max-regression {metric}={text}: say how far the score may rise, "
            "as 10% or as 0.2 (nats)"
        )
    return Regression(amount, text.endswith("%"))


def _rise(
    now: RecordJson, before: Compared, metric: str, limit: float, factor: float
) -> Rise | None:
    plain, beyond = (compared(now, before, metric, times) for times in (1.0, factor))
    if math.isnan(plain.difference.se):
        return None
    over = replace(beyond.difference, value=plain.now - limit)
    return Rise(plain.difference, over, plain.paired)


def _checked(content: Any) -> Compared:
    """The record, or an exception that says what is missing or not what it should be."""
    record = cast(
        Compared,
        {"epoch": None, "excess": {}, "leftover": None, "pairing": None}
        | content
        | {"setting": content.get("setting") or ""},
    )
    for key in KEPT:
        record[key]  # type: ignore[literal-required]
    pairing_in(record)
    for key in OfTest.__annotations__:
        if not isinstance(record[key], str):  # type: ignore[literal-required]
            raise TypeError(f"{key} is {record[key]!r:.40}")  # type: ignore[literal-required]
    for metric in METRICS:
        value: object = score_of(record, metric)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        statistic = METRICS[metric][2]
        least = -HIGHEST if statistic in FREE_OF_N else 0
        most = 10 * HIGHEST if statistic == LEFTOVER else HIGHEST  # per cent, with its error
        if value is not None and not (number and least <= value <= most):  # type: ignore[operator]
            raise TypeError(f"{metric} is {value!r:.40}")
    if not isinstance(record["hyperparameters"], dict):
        raise TypeError("hyperparameters are not an object")
    return record


def few(names: Iterable[str]) -> str:
    """The first three names, sorted, and how many more there are."""
    every = sorted(names)
    return ", ".join(every[:3]) + (f" and {len(every) - 3} more" if len(every) > 3 else "")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items())
    return str(value)
