"""What the fixture `klom` hands out: it measures or scores, records, and checks."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from klom_bench.plugin.failures import plain_failures
from klom_bench.plugin.keys import CLOCK, GATING, OUTCOME, RUN, UNCHECKED, Outcome

if TYPE_CHECKING:
    from klom_bench.cell.cell import Cell
    from klom_bench.cell.clock import Clock
    from klom_bench.cell.margins import Given
    from klom_bench.cell.record import Record
    from klom_bench.cell.record_json import RecordJson


def properties(record: "RecordJson") -> list[tuple[str, Any]]:
    """Names and values for JUnit XML: verdict, word, every number and its interval.

    Plain values, for xdist.
    """
    from klom_bench.cell.gates import METRICS
    from klom_bench.cell.record_json import error_of, score_of

    test = record["retrained"]
    found: dict[str, Any] = {
        "verdict": record["verdict"],
        "word": record["word"],
        "retrained_p": test["p"] if test else None,
    }
    for metric in METRICS:
        found[metric] = score_of(record, metric)
        if error := error_of(record, metric):
            found |= {f"{metric}_low": error["low"], f"{metric}_high": error["high"]}
    return [(f"klom_{name}", "n/a" if v is None else v) for name, v in found.items()]


class KlomTest:
    """Measures a cell or scores margins, records that, and holds it against the gates."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self._benchmark = request, benchmark
        self._record: Record | None = None
        self._gating = request.config.stash[GATING]

    def measure(self, cell: "Cell") -> "Record":
        """Unlearn and score; pytest-benchmark times the unlearning alone."""
        __tracebackhide__ = True
        if "klom_cell" not in self._request.fixturenames:
            pytest.fail(
                "a test with `klom.measure` asks for `klom_cell`, too: it is what is measured"
            )
        return self._left(lambda: self._measured(cell), "measure")

    def score(
        self,
        *,
        oracle: "Given",
        unlearned: "Given",
        forget: Any,
        train_points: int | None,
        originals: "Given | None" = None,
        name: str | None = None,
    ) -> "Record":
        """Score margins of unlearned models against those of oracles; pytest-benchmark times it.

        oracle, unlearned, originals: files, folders, arrays [models, points], or arrays by part
        (train, val). forget: indices into the train points, or a file of them. train_points: how
        many of the points are train points, the first ones; None: all, or as parts say. name: as it
        stands in tables and in [tool.klom.gates.margins.NAME]; the test's own, usually.
        """
        __tracebackhide__ = True
        if not self._request.node.stash.get(OUTCOME, Outcome()).get("margins"):
            pytest.fail("a test with `klom.score` asks for no `klom_cell`: it scores margins")
        if not (train_points is None or (type(train_points) is int and train_points > 0)):
            pytest.fail(f"train_points must be a whole number from 1 on, not {train_points!r}")
        if not isinstance(name, str | None):
            pytest.fail(f"name must be a text, not {name!r}")
        name = name or re.sub(r"[^\w.=,+-]+", "-", self._request.node.name).strip("-")

        def work() -> "Record":
            from klom_bench.cell.gates import MARGINS
            from klom_bench.cell.margins import margins_given, record_of
            from klom_bench.plugin.gating import given_to

            limits = self._gating.limits(MARGINS, name, given_to(self._request.node))
            limits = replace(limits, family=1)  # only cells are known before they are measured
            scoring = partial(
                record_of,
                oracle=margins_given(oracle, "oracle"),
                unlearned=margins_given(unlearned, "unlearned"),
                originals=None if originals is None else margins_given(originals, "originals"),
                forget=forget,
                train_points=train_points,
                name=name,
                estimator=self._gating.estimator,
                limits=limits,
            )
            record: Record = self._benchmark.pedantic(scoring, rounds=1, iterations=1)
            return record

        return self._left(work, "score")

    def _left(self, work: "Callable[[], Record]", verb: str) -> "Record":
        """What a test leaves behind: a record, here and there."""
        from klom_bench.report.failure import failure

        __tracebackhide__ = True
        node = self._request.node
        if "record" in node.stash.get(OUTCOME, Outcome()):
            pytest.fail(f"klom.{verb} was called before in this test: {verb} once a test")
        record = plain_failures(lambda: self._kept(work()))
        in_json = record.without_points().to_json()
        self._benchmark.extra_info["klom"] = in_json
        node.stash.setdefault(OUTCOME, Outcome())["record"] = in_json
        node.user_properties += properties(in_json)  # JUnit XML has them
        if text := failure(record):
            node.stash[UNCHECKED] = text
        self._record = record
        return record

    def _kept(self, record: "Record") -> "Record":
        """--klom-save-points."""
        if folder := self._gating.options.save_points:
            from klom_bench.cell.point_scores import save_points

            save_points(folder, record)
        return record

    def _measured(self, cell: "Cell") -> "Record":
        from klom_bench.cell.measure import measure
        from klom_bench.plugin.gating import given_to
        from klom_bench.plugin.progress import announce_on

        config = self._request.config
        limits = self._gating.limits(
            cell.method.name, cell.forget_set.name, given_to(self._request.node)
        )
        run = config.stash[RUN]
        announce = announce_on(config)
        return measure(cell, run.bench.store, self._timed, announce, limits, run.until)

    def _timed(self, unlearning: "Callable[[Clock], None]") -> None:
        clock = self._request.node.stash[CLOCK]
        self._benchmark.pedantic(lambda: unlearning(clock), rounds=1, iterations=1)

    def check(self, record: "Record") -> None:
        """Fail the test where a gate does not pass, or where there is no score."""
        from klom_bench.cell.record import Record
        from klom_bench.report.failure import failure

        if not isinstance(record, Record):
            pytest.fail(f"klom.check takes the record that klom.score returns, not {record!r:.80}")

        if record is self._record:
            self._request.node.stash[UNCHECKED] = ""
        if text := failure(record):
            pytest.fail(text, pytrace=False)
