"""What a row of the table says beside its numbers, gates or not."""

import math
from collections.abc import Sequence

from klom_bench.cell.record_json import RecordJson
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import SIZES, floor

VERDICTS = {"pass": "within limits", "none": "no gate"}
"""A test that passes has kept the limits set for it, and need not have forgotten anything."""
NEAR, FAR = 0.75, 0.25
"""Shares of what models score that are nowhere near the oracles: with a floor above the first
nothing can be told, below the second much can."""


def outcome(record: RecordJson) -> str:
    """The last column: the verdict, and what the scores say whatever the limits are."""
    verdict = str(record["verdict"])
    return "; ".join([VERDICTS.get(verdict, verdict), *remarks(record)])


def remarks(record: RecordJson) -> list[str]:
    """How a test did beside doing nothing, by the P95 that the table shows."""
    if says_nothing(record):
        return ["nothing can be told"]
    found = []
    if forgets_nothing(record):
        found.append("forget no lower than doing nothing")
    if broken := breaks(record):
        found.append(f"{' and '.join(broken)} worse than doing nothing")
    return found


def forgets_nothing(record: RecordJson) -> bool:
    """Whether its score on the forget set, as shown, is no lower than that of doing nothing."""
    mine, nothing = (of["forget"]["p95"] for of in (record["scores"], record["do_nothing"]))
    if mine is None or nothing is None or record["method"] == "do_nothing":
        return False
    return round(mine, 2) >= round(nothing, 2)


def breaks(record: RecordJson) -> list[str]:
    """The splits that score worse than doing nothing, by more than the floor varies."""
    worse = []
    for split in ("retain", "val"):
        of = (record["scores"], record["do_nothing"], record["floor"], record["perfect"])
        numbers = (splits[split]["p95"] for splits in of)
        mine, nothing, usual, perfect = (math.nan if n is None else n for n in numbers)
        if mine - nothing > perfect - usual:  # no, where one is nan
            worse.append(split)
    return worse


def says_nothing(record: RecordJson) -> bool:
    """Whether a perfect unlearner scores nearly as much as models that are nowhere near."""
    usual, most = (of["forget"]["p95"] for of in (record["floor"], record["nowhere"]))
    return usual is not None and most is not None and usual >= NEAR * most


def in_all(records: Sequence[RecordJson]) -> list[str]:
    """The same of a whole run, below its table."""
    lines = []
    silent = [r for r in records if says_nothing(r)]
    if silent:
        first = silent[0]
        members = first["members"]
        usual, most = (of["forget"]["p95"] or 0.0 for of in (first["floor"], first["nowhere"]))
        estimator = ESTIMATORS.get(first["estimator"]["name"])
        enough = estimator and next(
            (n for n in SIZES if floor(estimator, n, n).p95 <= FAR * most), None
        )
        lines.append(
            f"nothing can be told at this N: with {members['unlearned']} models against "
            f"{members['oracle']} oracles a perfect unlearner scores {usual:.2f} (P95), and models "
            f"that are nowhere near the oracles {most:.2f}"
            + (f"; --klom-models={enough} --klom-oracles={enough} would do" if enough else "")
        )
    told = [r for r in records if not says_nothing(r)]
    idle, broken = sum(map(forgets_nothing, told)), sum(bool(breaks(r)) for r in told)
    counts = [
        f"{idle} score no lower on forget than doing nothing" * bool(idle),
        f"{broken} are worse on retain or val than doing nothing" * bool(broken),
    ]
    if any(counts):
        lines.append(f"of {len(told)} tests " + ", ".join(filter(None, counts)))
    return lines
