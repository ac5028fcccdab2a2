"""Gates of a run that are judged together: how many there are, and what the end of the run says."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from klom_bench.cell.family import judged_together
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import RecordJson
from klom_bench.plugin.checks import limits_of
from klom_bench.plugin.gating import Gating
from klom_bench.plugin.run import Run
from klom_bench.report.failure import failure


def gated_together(run: Run, items: Sequence[pytest.Item]) -> Gating:
    """The gating of a run that knows how many gates there are."""
    limits = [limits_of(run, item) for item in items]
    return replace(run.gating, family=max(1, sum(of.in_family() for of in limits if of)))


def settled(found: Mapping[str, RecordJson], confidence: float) -> dict[str, str | None]:
    """Judge the records of tests together, in place.

    What is then wrong with each test that was left open; None where nothing is.
    """
    before = {test: Record.from_json(record) for test, record in found.items()}
    after = dict(zip(before, judged_together([*before.values()], confidence), strict=True))
    for test, record in after.items():
        found[test].update(record.to_json())
    left_open = [t for t, r in before.items() if r.verdict == "inconclusive" and not failure(r)]
    return {test: failure(after[test], at_the_end=True) for test in left_open}
