"""What a failing KLOM test says."""

import math
from collections.abc import Mapping, Sequence

from klom_bench.cell.gates import EXCESS, FREE_OF_N, LEFTOVER, MARGINS, Earlier, Gate, Rise
from klom_bench.cell.record import Record
from klom_bench.metrics.comparison import NOTHING
from klom_bench.metrics.floor import members_needed
from klom_bench.report.remarks import so_many


def failure(record: Record, at_the_end: bool = False) -> str | None:
    """The message, None where there is nothing to complain of.

    at_the_end: of a run, when gates that other tests may yet settle are settled.
    """
    if record.without_score[0]:
        return _no_score(record)
    if record.verdict in ("pass", "none"):
        return None
    if not at_the_end and all(gate.verdict == "pass" or gate.open for gate in record.gates):
        return None
    lines = [
        _reason(record),
        f"  {record.method} on {record.forget_set} of {record.task} "
        f"({record.members} unlearned against {record.oracles} oracles)",
    ]
    if record.looks and record.looks.stopped == "budget":
        lines.append(
            f"  the budget of minutes was spent after {record.looks.made} of "
            f"{len(record.looks.sizes)} looks, the last would be at {record.looks.sizes[-1]} models"
        )
    for gate in record.gates:
        lines += judged(record, gate)
    return "\n".join(lines)


def _reason(record: Record) -> str:
    """One line, which is all that a summary has of it: the first gate that decides."""
    first = next(gate for gate in record.gates if gate.verdict == record.verdict)
    what = f"{first.metric} {_value(first)}, limit {first.limit:g}"
    if first.earlier and not first.why:
        what = (
            f"{first.metric} rose from {_number(first, first.earlier.value)} to {_value(first)}, "
            f"{first.earlier.allowed} allowed"
        )
    more = sum(gate.verdict != "pass" for gate in record.gates) - 1
    return f"{what}: {record.verdict}" + (f", and {more} more" if more else "")


def nonconformance(method: str, wrong: Mapping[str, Sequence[str]]) -> str:
    """What a failing conformance test says: check by check."""
    from klom_bench.conformance.checks import MODEL  # imports torch, which scores need not

    lines = [f"{method} does not do what it says"]
    if MODEL in wrong:
        lines = [f"it is the model, not {method}"]
    for check, complaints in wrong.items():
        lines.append(f"  {check.replace('_', ' ')}: no")
        lines += [f"    {complaint}" for complaint in complaints]
    return "\n".join(lines)


def _no_score(record: Record) -> str:
    count, first = record.without_score
    name = record.estimator.name
    return (
        f"the estimator {name!r} gives nan at {count} points (the first is point {first}), as "
        "the published code does: there is no score to hold against a gate. "
        "Use --klom-estimator=default"
    )


def _value(gate: Gate) -> str:
    """The number, or that there is none."""
    if gate.why:
        return "n/a" if gate.verdict == "inconclusive" else "off the line"
    return _number(gate, gate.value)


def _number(gate: Gate, value: float) -> str:
    """In nats, or in per cent."""
    return f"{value:.1f} %" if gate.parts[2] == LEFTOVER else f"{value:.2f}"


def judged(record: Record, gate: Gate) -> list[str]:
    """Lines on one gate: the number, and what it says."""
    if gate.why:
        return _without_number(record, gate)
    if gate.earlier:
        return _compared(record, gate, gate.earlier)
    reverse, split, statistic = gate.parts
    shown = f"  {gate.metric}: {_with_interval(gate)}"
    if gate.verdict == "pass":
        return [f"{shown} is within the limit {gate.limit:g}: pass{_plain(gate)}"]
    if gate.verdict == "inconclusive":
        return _open(record, gate, shown)
    lines = [f"{shown} exceeds the limit {gate.limit:g}: fail{_plain(gate)}"]
    if reverse:
        noise = _noise(record, gate)
        return [*lines, f"    {noise}; the reverse divergence shows members far from the oracles"]
    if statistic == LEFTOVER:
        noise = "so much of the mean shift is left; a retrain leaves 0 %, doing nothing 100 %"
        return [*lines, f"    {noise}", _worst(record, split)]
    if statistic == EXCESS:
        of = record.excess_do_nothing.get(split)
        nothing = of.value if of else math.nan
        noise = "a perfect unlearner has 0 on average at every N"
    else:
        nothing, noise = getattr(record.do_nothing[split], statistic), _noise(record, gate)
    if not math.isnan(nothing):
        noise += f"; doing nothing has {nothing:.2f}"
    return [*lines, f"    {noise}", _worst(record, split)]


def _without_number(record: Record, gate: Gate) -> list[str]:
    """A gate on what is left over where models are off the line, or where there is none."""
    reason = record.leftover.reason if record.leftover else gate.why
    if gate.verdict == "inconclusive":
        return [
            f"  {gate.metric}: there is no number, {reason}: inconclusive",
            "    more models may tell them apart, or this set has too little influence to be gated",
        ]
    return [
        f"  {gate.metric}: the models are off the line from the originals to the oracles, so there "
        f"is no number: fail",
        f"    {reason}",
    ]


def _open(record: Record, gate: Gate, shown: str) -> list[str]:
    """An inconclusive gate: the limit lies in the noise, or in the interval."""
    if gate.early and gate.parts[2] not in FREE_OF_N:
        return [
            f"{shown} is not surely below the limit {gate.limit:g}, and more models make it lower: "
            "inconclusive, it is told at the last look"
        ]
    if gate.perfect is None or not gate.in_the_noise:
        needed = gate.settled_at
        more = so_many(record.task, needed or 0, record.looks is not None)
        asked = "" if record.task == MARGINS or not needed else f" ({more})"
        settled = f"about N = {needed} would settle it{asked}" if needed else "no N would settle it"
        return [
            f"{shown} may lie on either side of the limit {gate.limit:g}: inconclusive",
            f"    {settled}; or move the limit away from the number",
        ]
    needed = _needed(record, gate)
    enough = (
        f"{so_many(record.task, needed)} would decide it"
        if needed
        else "no N that can be simulated would decide it"
    )
    lines = [
        f"  {gate.metric}: the limit {gate.limit:g} is inconclusive, it lies in the noise "
        f"({_noise(record, gate)}); score {gate.value:.2f}",
        f"    {enough}; or raise the limit above {gate.perfect:.2f}",
    ]
    if gate.value > gate.perfect:
        lines.append("    the score lies above the noise, so it would fail such a limit, too")
    return lines


def _with_interval(gate: Gate) -> str:
    if gate.interval is None:
        return _value(gate)
    low, high = (_number(gate, end) for end in gate.interval)
    sure = math.floor(1e4 * gate.confidence + 1e-6) / 100  # never rounded up to 100
    return f"{_value(gate)} (surely {low} to {high}, {sure:g}% at either end)"


def _plain(gate: Gate) -> str:
    return " (a plain gate: no error is reckoned for percentiles)" * (gate.estimate is None)


def _compared(record: Record, gate: Gate, before: Earlier) -> list[str]:
    reverse, split, statistic = gate.parts
    name = "excess" if statistic == EXCESS else "reverse KLOM" if reverse else "KLOM"
    what = f"{name} of the {split} set, {'mean' if statistic == EXCESS else statistic}"
    if statistic == LEFTOVER:
        what = f"per cent of the mean shift of the {split} set"
    shown = f"  {gate.metric}: {what}: {before.value:.4g} before, {gate.value:.4g} now"
    if gate.verdict == "pass":
        return [f"{shown}; within the {before.allowed} allowed: pass"]
    lines = [
        f"{shown}; {before.allowed} allowed, so up to {gate.limit:.4g}: {gate.verdict}",
        f"    before: {before.source}",
    ]
    if before.changed:
        lines.append(f"    hyperparameters changed since: {', '.join(before.changed)}")
    if before.rise:
        lines.append(f"    {_risen(before.rise, gate.seen)}")
    if gate.verdict == "inconclusive":
        by_chance = gate.perfect is not None and gate.value <= gate.perfect
        noise = f" ({_noise(record, gate)})" if by_chance else ""
        lines.append(
            f"    the rise is still in the noise{noise}: more models "
            "(--klom-models, --klom-oracles) tell whether it is worse"
        )
    elif not reverse:
        lines.append(_worst(record, split))
    return lines


def _risen(rise: Rise, seen: float | None) -> str:
    low, high = rise.difference.interval()
    shared = "unpaired" if rise.paired == NOTHING else f"paired, the same {rise.paired}"
    return (
        f"difference {rise.difference.value:+.4g} ({low:.4g} to {high:.4g}; {shared}); "
        f"a rise to {seen:.4g} would fail in 8 of 10 runs"
    )


def _noise(record: Record, gate: Gate) -> str:
    reverse, split, statistic = gate.parts
    expected = getattr((record.floor_reverse if reverse else record.floor)[split], statistic)
    return (
        f"floor {expected:.2f}; a perfect unlearner stays below {gate.perfect:.2f} in 95 % of "
        f"runs at this N, with these models and {record.counts[split]} points"
    )


def _needed(record: Record, gate: Gate) -> int | None:
    """The N at which a gate whose limit lies in the noise could be decided."""
    reverse, split, statistic = gate.parts
    return members_needed(record.estimator, record.counts[split], statistic, gate.limit, reverse)


def _worst(record: Record, split: str) -> str:
    worst = ", ".join(f"{point} ({score:.2f})" for point, score in record.worst[split])
    return f"    worst {split} points (their KLOM): {worst}"
