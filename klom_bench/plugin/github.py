"""On GitHub Actions: a job summary and annotations, from the process that reports."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from klom_bench.plugin.failed import Failed
from klom_bench.plugin.terminal_report import TerminalReport
from klom_bench.report.github import annotation, job_summary


class GitHub:
    """At the end of a run writes $GITHUB_STEP_SUMMARY and prints annotations."""

    def __init__(self, terminal_report: TerminalReport, failed: Failed) -> None:
        self._report, self._failed = terminal_report, failed

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> Generator[None, None, None]:
        """Annotations go to the log, where GitHub reads them from the start of a line."""
        try:
            return (yield)
        finally:
            self._print(terminalreporter, config)

    def _print(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        terminalreporter.ensure_newline()
        failures = {**self._report.failed_at_the_end(), **self._failed.first}
        for test, message in failures.items():
            path = _seen_from_repository(config.rootpath / test.partition("::")[0])
            terminalreporter.write_line(annotation(path, test, message))
        target = os.environ.get("GITHUB_STEP_SUMMARY")
        if not target:
            return
        page = job_summary(self._report.rows(), self._report.lines(), failures)
        try:
            with Path(target).open("a", encoding="utf-8") as file:
                file.write(page)
        except OSError as error:
            terminalreporter.write_line(
                f"GITHUB_STEP_SUMMARY={target} cannot be written ({error.strerror}): "
                "no job summary; everything it would say stands above"
            )


def _seen_from_repository(path: Path) -> str:
    """GitHub finds files by their path in the repository."""
    root = os.environ.get("GITHUB_WORKSPACE")
    if root and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_posix()
