"""Tests that score margins, in a run without --klom-method; imports nothing heavy."""

from collections.abc import Iterable

import pytest

from klom_bench.plugin.asked import read_options
from klom_bench.plugin.keys import GATING, OUTCOME, PROBLEM, Outcome, outcome_of
from klom_bench.plugin.options import OPTIONS

OF_MARGINS_TOO = (
    *("baseline", "save_baseline", "save_points", "report", "history_json", "max_regression"),
)
"""Options that mean something where margins are scored."""


def refuse(config: pytest.Config, names: Iterable[str]) -> None:
    """UsageError for the first of these options that is given."""
    for name in names:
        if config.getoption(f"klom_{name}"):
            flag = OPTIONS[name].flag(name)
            raise pytest.UsageError(f"{flag} needs --klom-method: see --klom-list")


def unscored(stash: pytest.Stash) -> bool:
    """Whether a test was to score margins, and did not."""
    outcome = stash.get(OUTCOME, Outcome())
    return outcome.get("margins", False) and "record" not in outcome


def refuse_without_margins(config: pytest.Config, margins: bool) -> None:
    """Resolve what margins are held against; UsageError for what cannot be, or options of nothing.

    In a worker the tests fail with the same words: a UsageError would be an INTERNALERROR there.
    """
    worker = hasattr(config, "workerinput")
    if not margins:
        if not worker:
            refuse(config, OF_MARGINS_TOO)
        return
    from klom_bench.errors import KlomError
    from klom_bench.plugin.gating import gating_for

    try:
        config.stash[GATING] = gating_for(read_options(config), config)
    except KlomError as error:
        if not worker:
            raise pytest.UsageError(str(error)) from error
        config.stash[PROBLEM] = str(error)


class Margins:
    """Has the table of such tests printed and their baseline saved, once one of them has run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._begun = False
        self._missed: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The first report of such a test that says so, which is that of its teardown."""
        if self._begun:
            return
        is_first = outcome_of(report).get("margins", False)
        if report.failed or is_first:
            self._missed.append(report)
        if not is_first:
            return
        self._begun = True
        from klom_bench.errors import KlomError
        from klom_bench.plugin.gating import gating_for
        from klom_bench.plugin.reporting import register_reports

        try:
            gating = self._config.stash.get(GATING, None) or gating_for(
                read_options(self._config), self._config
            )
        except KlomError:
            return  # under xdist: each test has failed with these words
        hearing = register_reports(self._config, gating, None)
        for missed in self._missed:
            for plugin in hearing:
                plugin.pytest_runtest_logreport(missed)
        self._missed.clear()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Under xdist it is known only now that options were of nothing."""
        if not self._begun and not self._config.option.collectonly:
            given = [n for n in OF_MARGINS_TOO if self._config.getoption(f"klom_{n}")]
            if given and session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
