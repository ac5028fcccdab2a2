"""The hook `pytest_klom_record`, called in the process that reports."""

import traceback
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

from klom_bench.cell.record import Record
from klom_bench.cell.record_json import name_of
from klom_bench.errors import visible_lines
from klom_bench.plugin.keys import outcome_of
from klom_bench.plugin.terminal_report import TerminalReport

if TYPE_CHECKING:
    from klom_bench.cell.record_json import RecordJson


class Recorded:
    """Hands over each record as its test ends; at the end where gates are judged together.

    What an implementation raises would end the run with an INTERNALERROR and without a table, after
    hours perhaps. So it is shown at the end, and the run is red.
    """

    def __init__(
        self, terminal_report: TerminalReport, config: pytest.Config, at_the_end: bool
    ) -> None:
        self._report, self._config, self._at_the_end = terminal_report, config, at_the_end
        self._raised: dict[str, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """The last to see the report of a test."""
        if not self._at_the_end and (record := outcome_of(report).get("record")):
            self._hand_over(record)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Verdicts are final, and files are written."""
        if self._at_the_end:
            for record in self._report.records():
                self._hand_over(record)
        if not self._raised:
            return
        more = f" and {len(self._raised) - 1} more" if len(self._raised) > 1 else ""
        first = f"{next(iter(self._raised))}{more}"
        self._report.add(
            f"error: pytest_klom_record raised what stands above with the record of {first}"
        )
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What was raised first; how often that happened stands below the table."""
        for text in [*self._raised.values()][:1]:
            terminalreporter.section("pytest_klom_record", sep="=")
            terminalreporter.write_line(visible_lines(text.rstrip()))

    def _hand_over(self, record: "RecordJson") -> None:
        hook = self._config.hook.pytest_klom_record
        if not hook.get_hookimpls():
            return
        try:
            hook(config=self._config, record=Record.from_json(record))
        except pytest.exit.Exception:
            raise
        except Exception as error:
            error = error.with_traceback(_from_implementation(error.__traceback__))
            self._raised[name_of(record)] = "".join(traceback.format_exception(error))


def _from_implementation(part: TracebackType | None) -> TracebackType | None:
    """The part of a traceback below what calls hooks."""
    while part and str(part.tb_frame.f_globals.get("__name__")).startswith(
        ("klom_bench", "pluggy")
    ):
        part = part.tb_next
    return part
