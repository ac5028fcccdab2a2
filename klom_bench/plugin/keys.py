"""Where the plugin keeps what belongs to a run and to a test."""

from typing import TYPE_CHECKING, TypedDict

import pytest

if TYPE_CHECKING:
    from klom_bench.cell.clock import Clock
    from klom_bench.cell.record_json import RecordJson, UnfitJson
    from klom_bench.interrupt import Ended
    from klom_bench.plugin.gating import Gating
    from klom_bench.plugin.run import Run
    from klom_bench.progress import Show


class Outcome(TypedDict, total=False):
    """What a test leaves behind, as far as it came: `klom` of its report, plain values for xdist.

    record: of a KLOM test; margins: whether it is one that scores margins; conforms: of a
    conformance test; unfit: why the method does not apply;
    benchmark: what pytest-benchmark measured in a worker, as JSON text.
    """

    record: "RecordJson"
    margins: bool
    conforms: bool
    unfit: "UnfitJson"
    benchmark: str


CLOCK: "pytest.StashKey[Clock]" = pytest.StashKey()
GATING: "pytest.StashKey[Gating]" = pytest.StashKey()
RUN: "pytest.StashKey[Run]" = pytest.StashKey()
ENDED: "pytest.StashKey[Ended]" = pytest.StashKey()
DESELECTED: pytest.StashKey[int] = pytest.StashKey()
UNASKED: pytest.StashKey[int] = pytest.StashKey()
PROBLEM: pytest.StashKey[str] = pytest.StashKey()
OUTCOME: pytest.StashKey[Outcome] = pytest.StashKey()
UNCHECKED: pytest.StashKey[str] = pytest.StashKey()
"""What `klom.check` would say of the record of a test, until it is called with it."""
BENCHMARK_ONLY: pytest.StashKey[bool] = pytest.StashKey()
SHOW: "pytest.StashKey[Show | None]" = pytest.StashKey()
"""Where progress is shown, None where it is not."""


def outcome_of(report: pytest.TestReport) -> Outcome:
    """What the test of a report left behind."""
    return getattr(report, "klom", None) or Outcome()
