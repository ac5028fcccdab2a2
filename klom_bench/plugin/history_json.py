"""--klom-history-json: scores for a chart, from the process that reports."""

import json
from pathlib import Path

import pytest

from klom_bench.files.atomic import write_whole
from klom_bench.plugin.terminal_report import TerminalReport
from klom_bench.report.chart import chart


class HistoryJson:
    """Writes what was measured at the end of a run; a file that cannot be written fails it."""

    def __init__(self, path: Path, terminal_report: TerminalReport) -> None:
        self._path, self._report = path, terminal_report

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """After gates were judged together, which the report does before all others."""
        if not self._report.runs() or exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        entries = chart(self._report.records())
        try:
            path = self._path.resolve()  # a link stays one
            write_whole(path, (json.dumps(entries, indent=1, allow_nan=False) + "\n").encode())
        except OSError as error:
            why = f"{self._path} not written ({error.strerror})"
            self._report.add_error(session, f"--klom-history-json: {why}")
        else:
            self._report.add(f"history saved: {self._path} ({len(entries)} numbers)")
