"""A run beside its baseline, in a few lines."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from klom_bench.baseline import Baseline, name_of, score, test_of

USUAL = ("forget_p95", "retain_p95", "val_p95")


def changes(
    baseline: Baseline, records: Sequence[Mapping[str, Any]], gated: Collection[str]
) -> list[str]:
    """How many tests both have, the largest rise of each score, and what only one of them has."""
    shared = [r for r in records if test_of(r) in baseline.tests]
    lines = [f"baseline {baseline.path}: {len(shared)} of {len(records)} tests measured are in it"]
    for metric in sorted(gated) or USUAL:
        pairs = [
            (now - before, before, now, name_of(r))
            for r in shared
            if (before := score(baseline.tests[test_of(r)], metric)) is not None
            and (now := score(r, metric)) is not None
        ]
        if pairs:
            rise, before, now, test = max(pairs)
            told = "largest rise" if rise > 0 else "nothing rose; the least fall"
            lines.append(
                f"  {metric}: unchanged"
                if not any(change for change, *_ in pairs)
                else f"  {metric}: {told} {before:.4g} -> {now:.4g} ({test})"
            )
    measured = {test_of(r) for r in records}
    new = sorted(name_of(r) for r in records if test_of(r) not in baseline.tests)
    gone = sorted("-".join(test) for test in baseline.tests if test not in measured)
    for names, what in ((new, "not in it, so not compared"), (gone, "in it, but not measured now")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"  {what}: {', '.join(names[:3])}{more}")
    if not gated:
        lines.append(
            "  nothing is asserted against it: say --klom-max-regression forget_p95=10% or so"
        )
    return lines
