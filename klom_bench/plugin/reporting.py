"""What reports on a run, registered in the process that reports."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from klom_bench.plugin.gating import Gating
from klom_bench.plugin.github import GitHub
from klom_bench.plugin.history_json import HistoryJson
from klom_bench.plugin.recorded import Recorded
from klom_bench.plugin.terminal_report import TerminalReport

if TYPE_CHECKING:
    from klom_bench.plugin.run import Run


def register_reports(
    config: pytest.Config, gating: Gating, run: "Run | None"
) -> "Sequence[TerminalReport | GitHub | Recorded]":
    """The table, and what is told elsewhere: GitHub, a file for charts, a hook.

    Returns those that hear of single tests.
    """
    register = config.pluginmanager.register
    terminal_report = TerminalReport(gating, run, config)
    register(terminal_report, "klom-report")
    hearing: list[TerminalReport | GitHub | Recorded] = [terminal_report]
    if os.environ.get("GITHUB_ACTIONS") == "true":
        hearing.append(GitHub(terminal_report))
        register(hearing[-1], "klom-github")
    if path := gating.options.history_json:
        register(HistoryJson(path, terminal_report), "klom-history-json")
    hearing.append(Recorded(terminal_report, config, at_the_end=gating.together))
    register(hearing[-1], "klom-recorded")
    return hearing
