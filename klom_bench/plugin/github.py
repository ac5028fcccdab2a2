"""On GitHub Actions: a job summary and annotations, from the process that reports."""

import os
from pathlib import Path

import pytest

from klom_bench.plugin.terminal_report import TerminalReport
from klom_bench.report.github import annotation, job_summary

LONGEST = 4000


class GitHub:
    """Collects what failed; at the end writes $GITHUB_STEP_SUMMARY and prints annotations."""

    def __init__(self, terminal_report: TerminalReport) -> None:
        self._report = terminal_report
        self._failures: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first failure of a test."""
        self._keep(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected."""
        self._keep(report)

    def _keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            self._failures.setdefault(report.nodeid, _message(report))

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        """Annotations go to the log, where GitHub reads them from the start of a line."""
        terminalreporter.ensure_newline()
        failures = {**self._report.failed_at_the_end(), **self._failures}
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


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What failed: all that a KLOM test says, of anything else the exception and its place."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        text = str(report.longrepr)
    elif crash.message.startswith("Failed: "):
        text = crash.message.removeprefix("Failed: ")
    else:
        text = f"{crash.message}\n{crash.path}:{crash.lineno}"
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."


def _seen_from_repository(path: Path) -> str:
    """GitHub finds files by their path in the repository."""
    root = os.environ.get("GITHUB_WORKSPACE")
    if root and path.is_relative_to(root):
        path = path.relative_to(root)
    return path.as_posix()
