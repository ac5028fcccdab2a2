"""What reports on a run, registered in the process that reports."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from klom_bench.plugin.failed import Failed
from klom_bench.plugin.gating import Gating
from klom_bench.plugin.github import GitHub
from klom_bench.plugin.history_json import HistoryJson
from klom_bench.plugin.recorded import Recorded
from klom_bench.plugin.report_file import ReportFile
from klom_bench.plugin.terminal_report import TerminalReport

if TYPE_CHECKING:
    from klom_bench.plugin.run import Run


def register_reports(
    config: pytest.Config, gating: Gating, run: "Run | None"
) -> "Sequence[TerminalReport | Failed | Recorded]":
    """The table, and what is told elsewhere: GitHub, a page, a file for charts, a hook.

    Returns those that hear of single tests.
    """
    register = config.pluginmanager.register
    terminal_report, failed = TerminalReport(gating, run, config), Failed()
    register(terminal_report, "klom-report")
    register(failed, "klom-failed")
    hearing: list[TerminalReport | Failed | Recorded] = [terminal_report, failed]
    if os.environ.get("GITHUB_ACTIONS") == "true":
        register(GitHub(terminal_report, failed), "klom-github")
    if path := gating.options.report:
        register(ReportFile(path, gating, run, terminal_report, failed), "klom-report-file")
    if path := gating.options.history_json:
        register(HistoryJson(path, terminal_report), "klom-history-json")
    hearing.append(Recorded(terminal_report, config, at_the_end=gating.together))
    register(hearing[-1], "klom-recorded")
    return hearing
