"""What is told of models beside the originals that they were made of."""

import math
from collections.abc import Sequence

from klom_bench.cell.record_json import EpochJson, RecordJson
from klom_bench.metrics.estimate import EstimateJson
from klom_bench.metrics.leftover import UNKNOWN
from klom_bench.metrics.summary import SPLITS

NEARER, FARTHER = "nearer the retrained", "farther than the original"
OFF = "off the line"


def left_over(record: RecordJson | EpochJson) -> str:
    """How much of the mean shift is left: per cent, that it is none, or that it is not known."""
    of = record["leftover"]
    if of is None or of["why"] == UNKNOWN:
        return "n/a"
    return OFF if of["estimate"] is None else _percent(of["estimate"])


def way(record: RecordJson | EpochJson) -> str:
    """The share of the way from originals to oracles on the forget set."""
    of = record["nearer"].get("forget")
    return "n/a" if of is None or of["share"] is None else _percent(of["share"], 100)


def beside_nothing(record: RecordJson) -> list[str]:
    """Lines on one record: which splits are nearer or farther, and how much is left."""
    told = ", ".join(f"{of['word']} on {split}" for split, of in record["nearer"].items())
    return [
        f"beside doing nothing: {told or 'n/a'}",
        f"on forget, left over of the mean shift: {left_over(record)}; of the way: {way(record)}",
    ]


def of_all(records: Sequence[RecordJson]) -> list[str]:
    """Lines below the tables of a run."""
    tried = [r["nearer"] for r in records if r["nearer"] and r["method"] != "do_nothing"]
    lines = []
    if tried:
        counts = {
            word: [(sum(of[split]["word"] == word for of in tried), split) for split in SPLITS]
            for word in (NEARER, FARTHER)
        }
        nearer, farther = (
            ", ".join(f"{count} on {split}" for count, split in of if count) or "none"
            for of in counts.values()
        )
        lines.append(
            f"{NEARER}: {nearer}; {FARTHER}: {farther} (of {len(tried)}, each beside doing "
            "nothing; surely, if perhaps by too little for another word)"
        )
    if any(left_over(r) == OFF for r in records):
        lines.append(
            f"{OFF}: means moved elsewhere than from the originals towards the oracles, or margins "
            "spread, so nothing is told of what is left over"
        )
    return lines


def _percent(of: EstimateJson, scale: float = 1) -> str:
    """A value, and what the upper end of its 95 % interval is away, rounded up."""
    value, high = of["value"], of["high"]
    if value is None:
        return "n/a"
    away = "" if high is None else f" ±{math.ceil(round(scale * (high - value), 6))}"
    return f"{round(scale * value) + 0:d} %{away}"
