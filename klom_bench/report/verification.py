"""What `klom verify` found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from klom_bench.report.listing import size, what
from klom_bench.store.verify import Verified


def as_text(root: Path, found: Sequence[Verified]) -> str:
    """A line an ensemble, its problems and notes below it."""
    if not found:
        return f"{root}: nothing there to verify\n"
    lines = []
    for verified in found:
        h = verified.holding
        state = "PROBLEM" if verified.problems else "ok"
        lines.append(
            f"{state:8}{h.task}: {what(h)}, {h.members} members, {size(h.bytes)}, {h.made}, "
            f"in {h.folder}"
        )
        if s := verified.sanity:
            lines.append(
                f"        doing nothing scores {s.forget:.2f} on the forget set, {s.retain:.2f} on "
                f"retain (floor {s.floor:.2f}); originals are surer of the forget set by "
                f"{s.shift:.3g} nats ({s.sigmas:.1f} standard errors)"
            )
        lines += [f"        {text}" for text in (*verified.problems, *verified.notes)]
    bad = sum(bool(verified.problems) for verified in found)
    lines.append(f"{len(found)} ensembles, {bad} with problems; {root}")
    return "\n".join(lines) + "\n"


def as_json(root: Path, found: Sequence[Verified]) -> dict[str, Any]:
    """One object."""
    return {
        "schema": 1,
        "store": str(root),
        "ok": not any(verified.problems for verified in found),
        "ensembles": [verified.as_json() for verified in found],
    }
