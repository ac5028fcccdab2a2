"""What `klom verify` found."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from klom_bench.report.listing import size, what
from klom_bench.store.verify import Checked


def as_text(root: Path, found: Sequence[Checked]) -> str:
    """A line an ensemble, its problems and notes below it."""
    if not found:
        return f"{root}: nothing there to verify\n"
    lines = []
    for checked in found:
        h = checked.holding
        state = "PROBLEM" if checked.problems else "ok"
        lines.append(
            f"{state:8}{h.task}: {what(h)}, {h.members} members, {size(h.bytes)}, {h.made}, "
            f"in {h.folder}"
        )
        if s := checked.sanity:
            lines.append(
                f"        doing nothing scores {s.forget:.2f} on the forget set, {s.retain:.2f} on "
                f"retain (floor {s.floor:.2f}); originals are surer of the forget set by "
                f"{s.shift:.3g} nats ({s.sigmas:.1f} standard errors)"
            )
        lines += [f"        {text}" for text in (*checked.problems, *checked.notes)]
    bad = sum(bool(checked.problems) for checked in found)
    lines.append(f"{len(found)} ensembles, {bad} with problems; {root}")
    return "\n".join(lines) + "\n"


def as_json(root: Path, found: Sequence[Checked]) -> dict[str, Any]:
    """One object."""
    return {
        "schema": 1,
        "store": str(root),
        "ok": not any(checked.problems for checked in found),
        "ensembles": [checked.as_json() for checked in found],
    }
