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
        lines.append(too_few(silent[0]))
    return lines


def together(records: Sequence[RecordJson]) -> list[str]:
    """How many gates were judged together, and what that says."""
    verdicts = Counter(g["verdict"] for r in records for g in r["gates"] if g["family"] > 1)
    if not verdicts:
        return []
    counts = ", ".join(f"{n} {verdict}" for verdict, n in sorted(verdicts.items()))
    return [
        f"{verdicts.total()} gates judged together (Holm), so that no pass and no fail of them is "
        f"wrong, each with the confidence asked for: {counts}"
    ]


def looked(records: Sequence[RecordJson]) -> list[str]:
    """At how many models tests stopped that add models as needed, and what was not needed."""
    of = [(record, record["looks"]) for record in records if record["looks"]]
    if not of:
        return []
    stops, left = Counter(r["members"]["unlearned"] for r, _ in of), Counter[str]()
    all_of, ensembles = Counter[str](), dict[tuple[str, ...], tuple[int, int]]()
    for record, looks in of:
        members, most = record["members"], looks["sizes"][-1]
        n, m = members["unlearned"], members["oracle"]
        all_of["unlearned models"] += most
        left["unlearned models"] += most - n
        task, forget_set = record["task"], record["forget_set"]
        for key, used, whole in (
            (("originals", task), n, most),
            (("oracles", task, forget_set), m, m * most // n),
        ):
            before, _ = ensembles.get(key, (0, 0))
            ensembles[key] = max(before, used), whole
    for (kind, *_), (used, whole) in ensembles.items():
        all_of[kind] += whole
        left[kind] += whole - used
    stopped = ", ".join(f"{count} with {n}" for n, count in sorted(stops.items()))
    spared = ", ".join(f"{left[kind]} of {all_of[kind]} {kind}" for kind in all_of)
    lines = [f"tests stopped: {stopped} models; not needed: {spared}"]
    if spent := sum(looks["stopped"] == "budget" for _, looks in of):
        lines.append(f"the budget of minutes was spent before {spent} of them were settled")
    return lines


def says_nothing(record: RecordJson) -> bool:
    """Whether a perfect unlearner scores nearly as much as models that are nowhere near."""
    usual, most = (of["forget"]["p95"] for of in (record["floor"], record["nowhere"]))
    return usual is not None and most is not None and usual >= NEAR * most


def too_few(record: RecordJson) -> str:
    """That KLOM tells nothing of it, and how many models would do."""
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


def so_many(task: str, models: int, auto: bool = False) -> str:
    """The options that ask for so many, or words where margins are all there is."""
    if task == MARGINS:
        return f"{models} models and oracles"
    if auto:
        return f"--klom-models=auto:{models}"
    return f"--klom-models={models} --klom-oracles={models}"
