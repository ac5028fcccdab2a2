"""What failed in a run, in words, in the process that reports."""

import pytest

LONGEST = 4000


class Failed:
    """first: of each test, or file that cannot be collected, what its first failure said."""

    def __init__(self) -> None:
        self.first: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the first failure of a test."""
        self._keep(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected."""
        self._keep(report)

    def _keep(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            self.first.setdefault(report.nodeid, _message(report))


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What failed: all that a KLOM test says, of anything else the exception and its place."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(report.longrepr)
    if crash is None or text.startswith(crash.message):
        pass  # there is no traceback
    elif crash.message.startswith("Failed: "):
        text = crash.message.removeprefix("Failed: ")
    else:
        text = f"{crash.message}\n{crash.path}:{crash.lineno}"
    return text if len(text) <= LONGEST else text[:LONGEST] + " ..."
