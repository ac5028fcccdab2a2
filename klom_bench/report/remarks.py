"""What a row of the table says beside its numbers, and what a run says below it."""

from collections import Counter
from collections.abc import Sequence

from klom_bench.cell.gates import MARGINS
from klom_bench.cell.record_json import EpochJson, RecordJson
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import SIZES, floor
from klom_bench.report.beside import of_all

VERDICTS = {"pass": "within limits", "none": "no gate"}
"""A test that passes has kept the limits set for it, and need not have forgotten anything."""
NEAR, FAR = 0.75, 0.25
"""Shares of what models score that are nowhere near the oracles: with a floor above the first
nothing can be told, below the second much can."""


def outcome(record: RecordJson | EpochJson) -> str:
    """The last column: what the method did, in a word, and whether it kept its limits."""
    said = record["word"] + "?" * record["word_is_provisional"]
    if below := record["below_floor"]:
        said += f"; below the floor on {' and '.join(below)}"
    verdict = record.get("verdict")  # an earlier epoch has none
    return f"{said}; {VERDICTS.get(str(verdict), verdict)}" if verdict else said


def in_all(records: Sequence[RecordJson]) -> list[str]:
    """The words of a whole run, and at how small an N KLOM says nothing, below its table."""
    lines = []
    if words := Counter(record["word"] for record in records):
        lines.append("in words: " + ", ".join(f"{n} {word}" for word, n in words.most_common()))
    lines += of_all(records)
    if any(record["word_is_provisional"] for record in records):
        lines.append(
            "?: a word is provisional below N = 100, where more than 1 in 20 may be wrong "
            "(`klom help calibration`)"
        )
    if silent := [r for r in records if says_nothing(r)]:
        lines.append(_too_few(silent[0]))
    return lines


def says_nothing(record: RecordJson) -> bool:
    """Whether a perfect unlearner scores nearly as much as models that are nowhere near."""
    usual, most = (of["forget"]["p95"] for of in (record["floor"], record["nowhere"]))
    return usual is not None and most is not None and usual >= NEAR * most


def _too_few(record: RecordJson) -> str:
    members = record["members"]
    usual, most = (of["forget"]["p95"] or 0.0 for of in (record["floor"], record["nowhere"]))
    estimator = ESTIMATORS.get(record["estimator"]["name"])
    enough = estimator and next(
        (n for n in SIZES if floor(estimator, n, n).p95 <= FAR * most), None
    )
    return (
        f"KLOM tells nothing at this N: with {members['unlearned']} models against "
        f"{members['oracle']} oracles a perfect unlearner scores {usual:.2f} (P95), and models "
        f"that are nowhere near the oracles {most:.2f}"
        + (f"; {so_many(record['task'], enough)} would do" if enough else "")
    )


def so_many(task: str, models: int) -> str:
    """The options that ask for so many, or words where margins are all there is."""
    if task == MARGINS:
        return f"{models} models and oracles"
    return f"--klom-models={models} --klom-oracles={models}"
