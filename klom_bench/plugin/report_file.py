"""--klom-report: the run as a page, from the process that reports."""

import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from klom_bench.errors import KlomError
from klom_bench.files.atomic import write_whole
from klom_bench.plugin.failed import Failed
from klom_bench.plugin.gating import Gating
from klom_bench.plugin.terminal_report import TerminalReport
from klom_bench.report.runs import SavedRun, saved_run

if TYPE_CHECKING:
    from klom_bench.plugin.run import Run

UNENDED = "it did not run to its end"


class ReportFile:
    """Writes what there is at the end of a run; a page that cannot be written fails it."""

    def __init__(
        self,
        path: Path,
        gating: Gating,
        run: "Run | None",
        terminal_report: TerminalReport,
        failed: Failed,
    ) -> None:
        self._path, self._gating, self._run = path, gating, run
        self._report, self._failed = terminal_report, failed

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """After gates were judged together, which the report does before all others."""
        if not self._report.runs() or exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        if not self._report.rows() and not self._failures():
            self._report.add(f"no report: nothing was measured; {self._path} was not written")
            return
        try:
            content = self._page(session.config)
            write_whole(self._path.resolve(), content.encode())  # a link stays one
        except Exception as error:  # hours of measuring must end with a table all the same
            why = error.strerror if isinstance(error, OSError) else error
            if not isinstance(error, OSError | KlomError):
                why = "".join(traceback.format_exception(error)).rstrip()
            self._report.add_error(session, f"--klom-report: {self._path} not written ({why})")
        else:
            self._report.add(f"report: {self._path} ({len(content.encode()) / 1e6:.1f} MB)")

    def _page(self, config: pytest.Config) -> str:
        from klom_bench.report.page.page import page
        from klom_bench.report.page.points import examples

        saved = self._saved(config)
        shown = None
        if self._gating.options.report_examples:
            tasks = {self._run.bench.task.name: self._run.bench.task} if self._run else {}
            shown = examples(saved.records, tasks)
        return page([saved], self._failures(), shown)

    def _saved(self, config: pytest.Config) -> SavedRun:
        """The run as a file of --benchmark-json would have it, whether one is written or not."""
        session: Any = config.pluginmanager.get_plugin("pytest-benchmark")
        about = {
            "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit_info": config.hook.pytest_benchmark_generate_commit_info(config=config),
            "machine_info": session.get_machine_info(),
        }
        return saved_run("this run", self._report.rows(), about)

    def _failures(self) -> dict[str, str]:
        """What limits do not say: tests that left no number, or failed by something else."""
        unended = dict.fromkeys(sorted(self._report.unmeasured()), UNENDED)
        judged = self._report.judged()
        first = {test: text for test, text in self._failed.first.items() if test not in judged}
        return {**unended, **first}
