"""All that is known of single rows, as text, and which of them come first."""

from collections.abc import Iterator, Sequence
from pathlib import PurePath

from klom_bench.cell.record import Record
from klom_bench.cell.record_json import EpochJson, GateJson, PointJson, RecordJson, score_of
from klom_bench.errors import visible
from klom_bench.metrics.summary import SPLITS
from klom_bench.report.beside import beside_nothing
from klom_bench.report.failure import judged
from klom_bench.report.page.rows import Line
from klom_bench.report.table import named

LABELS = (
    "hyperparameters",
    "where these are from",
    "beside doing nothing",
    "could these be retrained models?",
    *(f"worst {split} points (their KLOM)" for split in SPLITS),
    "gates",
)
MOST = 50
"""So many rows have all of this in the page itself, with a figure."""
GATES = ("test", "metric", "limit", "value", "surely within", "verdict", "what it says")


def details(record: RecordJson, of: RecordJson | EpochJson, said: Sequence[str]) -> list[str]:
    """A text for each of `LABELS`, empty where there is none. said: lines on its gates."""
    if of is not record:
        return [_values(record), "", "an earlier epoch of the same run", *[""] * (len(LABELS) - 3)]
    worst = (_points(record["worst"].get(split, ())) for split in SPLITS)
    return [
        _values(record),
        visible(_tuning(record)),
        "\n".join(beside_nothing(record)).removeprefix("beside doing nothing: "),
        _test(record),
        *worst,
        "\n".join(said),
    ]


def title(record: RecordJson, of: RecordJson | EpochJson) -> str:
    """Which row it is."""
    epoch = f", epoch {of['epoch']}" if of["epoch"] is not None else ""
    return visible(f"{named(record)} on {record['forget_set']}{epoch}")


def first(lines: Sequence[Line], most: int = MOST) -> list[int]:
    """Places of the rows to be looked at first: those that fail, then those of most excess."""

    def order(place: int) -> tuple[bool, bool, float]:
        record = lines[place].record
        assert record is not None
        metrics = ("forget_excess", "forget_p95")
        worst = next((v for metric in metrics if (v := score_of(record, metric)) is not None), 0.0)
        return record["verdict"] != "fail", record["verdict"] != "inconclusive", -worst

    measured = [i for i, line in enumerate(lines) if line.record is line.of is not None]
    return sorted(measured, key=order)[:most]


def gates_said(record: RecordJson) -> list[list[str]]:
    """Lines on each gate; of a baseline the name alone, since the page is sent around."""
    if not record["gates"]:
        return []
    gates = [{**gate, "baseline": _name_of(gate["baseline"])} for gate in record["gates"]]
    whole = Record.from_json({**record, "gates": gates})
    return [judged(whole, gate) for gate in whole.gates]


def gate_rows(record: RecordJson, said: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """A row of `GATES` for each gate."""
    for gate, lines in zip(record["gates"], said, strict=True):
        yield (
            visible(f"{named(record)} on {record['forget_set']}"),
            gate["metric"],
            f"{gate['limit']:.4g}",
            "n/a" if gate["value"] is None else f"{gate['value']:.4g}",
            _surely(gate),
            gate["verdict"],
            "\n".join(map(visible, lines)).strip(),
        )


def _name_of(path: str | None) -> str | None:
    return path and PurePath(path).name


def _surely(gate: GateJson) -> str:
    if gate["low"] is None or gate["high"] is None:
        return ""
    return f"{gate['low']:.4g} to {gate['high']:.4g}"


def _values(record: RecordJson) -> str:
    return visible(", ".join(f"{k}={v}" for k, v in record["hyperparameters"].items())) or "none"


def _tuning(record: RecordJson) -> str:
    tuning = record["tuning"]
    if not tuning:
        return "as given, or the defaults of the method"
    changed = tuning.get("overridden")
    how = f"klom tune, {tuning.get('trials')} trials on other forget sets"
    return how + (f"; given in this run: {', '.join(map(str, changed))}" if changed else "")


def _test(record: RecordJson) -> str:
    test = record["retrained"]
    if test is None or test["p"] is None:
        return "not asked"
    parts = ", ".join(f"{split} {p:.3f}" for split, p in test["energy"].items())
    verdict = "no" if test["p"] <= 0.05 else "no difference shows"
    return f"p = {test['p']:.3f}: {verdict} ({parts})"


def _points(worst: Sequence[PointJson]) -> str:
    known = [(of["point"], of["klom"]) for of in worst]
    return ", ".join(
        f"{point} ({'n/a' if klom is None else f'{klom:.2f}'})" for point, klom in known
    )
