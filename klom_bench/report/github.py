"""What GitHub Actions shows: a job summary in Markdown, and annotations."""

from collections.abc import Mapping, Sequence

from klom_bench.cell.record_json import Row
from klom_bench.report.markdown import plain
from klom_bench.report.table import JUDGED, KLOM, cells, headline


def job_summary(
    rows: Sequence[Row], lines_below: Sequence[str], failures: Mapping[str, str]
) -> str:
    """A page: the tables, what the run says of itself, and what failed, by test."""
    lines = ["## KLOM", ""]
    if measured := [row for row in rows if "unfit" not in row]:
        lines += [plain(headline(measured[0])), ""]
        for layout in (JUDGED, KLOM):
            table = [layout.names, ["---"] * len(layout.names), *cells(rows, layout)]
            lines += [f"| {' | '.join(plain(cell) for cell in row)} |" for row in table]
            lines.append("")
    lines += [f"{plain(line)}  " for line in lines_below]
    for test, message in failures.items():
        lines += ["", f"<details><summary>{plain(test)}</summary>", ""]
        lines += ["    " + line for line in message.splitlines()]
        lines += ["", "</details>"]
    return "\n".join(lines) + "\n\n"


def annotation(path: str, test: str, message: str) -> str:
    """A workflow command that GitHub shows at the file of a failing test."""
    title = _escaped(test, {":": "%3A", ",": "%2C"})
    file = _escaped(path, {":": "%3A", ",": "%2C"})
    return f"::error file={file},title={title}::{_escaped(message, {})}"


def _escaped(text: str, more: Mapping[str, str]) -> str:
    for char, code in {"%": "%25", "\r": "%0D", "\n": "%0A", **more}.items():
        text = text.replace(char, code)
    return text
