"""`klom report --format html`."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from klom_bench.cli.common import put_file

if TYPE_CHECKING:
    from klom_bench.report.page.points import Example
    from klom_bench.report.runs import SavedRun

USUAL = Path("report.html")


def write_page(runs: "Sequence[SavedRun]", output: Path | None, with_examples: bool) -> str:
    """Write the page of these runs; what is said of it. KlomError where it cannot be."""
    from klom_bench.report.extra import refuse_without_extra

    refuse_without_extra("--format html")
    from klom_bench.report.page.page import page

    path = output or USUAL
    content = page(runs, examples=_examples(runs) if with_examples else None).encode()
    put_file(path, content)
    return f"{path} ({len(content) / 1e6:.1f} MB)"


def _examples(runs: "Iterable[SavedRun]") -> "Mapping[str, list[Example]]":
    """Points of the tasks that the records are of, from these tasks' data."""
    from klom_bench.cell.gates import MARGINS
    from klom_bench.cli.common import known_tasks
    from klom_bench.report.page.points import examples

    known, records = known_tasks(), [record for run in runs for record in run.records]
    names = {record["task"] for record in records} - {MARGINS}
    return examples(records, {name: known[name]() for name in names if name in known})
