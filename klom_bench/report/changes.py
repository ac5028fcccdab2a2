"""A run beside its baseline, in a few lines."""

from collections.abc import Collection, Sequence

from klom_bench.cell.baseline import Baseline, few
from klom_bench.cell.gates import METRICS
from klom_bench.cell.record_json import RecordJson, name_of, score_of, test_of

USUAL = ("forget_p95", "retain_p95", "val_p95")


def changes(baseline: Baseline, records: Sequence[RecordJson], gated: Collection[str]) -> list[str]:
    """How many tests both have, the largest rise of each score, and what only one of them has."""
    shared = [r for r in records if test_of(r) in baseline.tests]
    lines = [f"baseline {baseline.path}: {len(shared)} of {len(records)} tests measured are in it"]
    for metric in sorted(gated) or USUAL:
        pairs = [
            (now - before, before, now, name_of(r))
            for r in shared
            if (before := score_of(baseline.tests[test_of(r)], metric)) is not None
            and (now := score_of(r, metric)) is not None
        ]
        if pairs:
            rise, before, now, test = max(pairs)
            told = "largest rise" if rise > 0 else "nothing rose; the least fall"
            lines.append(
                f"  {metric}: unchanged"
                if not any(change for change, *_ in pairs)
                else f"  {metric}: {told} {before:.4g} -> {now:.4g} ({test})"
            )
    lines += _beyond_reach(shared)
    measured = {test_of(r) for r in records}
    new = [name_of(r) for r in records if test_of(r) not in baseline.tests]
    gone = ["-".join(test) for test in baseline.tests if test not in measured]
    for names, what in ((new, "not in it, so not compared"), (gone, "in it, but not measured now")):
        if names:
            lines.append(f"  {what}: {few(names)}")
    if not gated:
        lines.append(
            "  nothing is asserted against it: say --klom-max-regression forget_p95=10% or so"
        )
    return lines


def _beyond_reach(records: Sequence[RecordJson]) -> list[str]:
    """Gates that cannot fail: the limit is more than models score that are nowhere near."""
    beyond: dict[str, list[str]] = {}
    for record in records:
        for gate in record["gates"]:
            reverse, split, statistic = METRICS[gate["metric"]]
            most = None if reverse else record["nowhere"][split].get(statistic)
            if gate["before"] is not None and most is not None and gate["limit"] >= most:
                beyond.setdefault(gate["metric"], []).append(name_of(record))
    return [
        f"  {metric}: {len(tests)} of {len(records)} tests cannot fail, they were so high before "
        f"that nothing can rise by so much ({tests[0]}{', ...' if len(tests) > 1 else ''})"
        for metric, tests in beyond.items()
    ]
