"""The summary at the end of a run: lives in the process that reports, never in a worker."""

from collections import Counter
from typing import Any

import pytest

from klom_bench.plugin.keys import SETTINGS
from klom_bench.report.table import table


class Summary:
    """Collects the records that reports carry and prints them as one table."""

    def __init__(self) -> None:
        self._records: dict[str, dict[str, Any]] = {}
        self._wanted = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """How many tests should measure."""
        self._wanted = len(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of a test."""
        record = getattr(report, "klom", None)
        if record is not None:
            self._records[report.nodeid] = record

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
    ) -> None:
        """The table, and what it rests on."""
        if config.getoption("klom_plan") or config.getoption("collectonly"):
            return
        if exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        write = terminalreporter.write_line
        records = list(self._records.values())
        terminalreporter.ensure_newline()
        terminalreporter.section("KLOM", sep="=")
        if records:
            first = records[0]
            members, estimator = first["members"], first["estimator"]
            write(
                f"{members['unlearned']} unlearned against {members['oracle']} oracles of "
                f"{first['task']}, estimator {estimator['name']} (KL {estimator['direction']}, "
                f"nats), {first['device']}"
            )
            for text in table(records):
                write(text)
        verdicts = Counter(record["verdict"] for record in records)
        counts = ", ".join(
            f"{count} {'no gate' if name == 'none' else name}" for name, count in verdicts.items()
        )
        wanted = max(self._wanted, len(records))
        write(f"{len(records)} of {wanted} tests measured" + (f": {counts}" if counts else ""))
        if verdicts["pass"]:
            write(
                "pass: within the limits that were set for it, which need not mean that it forgets"
            )
        if verdicts["none"]:
            write(
                "no gate: nothing was asserted; set limits in [tool.klom.gates] of "
                f"{config.rootpath / 'pyproject.toml'} or with --klom-max forget_p95=LIMIT"
            )
        write(f"store: {config.stash[SETTINGS].store.root}")
