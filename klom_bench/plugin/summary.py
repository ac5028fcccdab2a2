"""The summary at the end of a run: lives in the process that reports, never in a worker."""

from collections import Counter
from typing import Any

import pytest

from klom_bench.plugin.keys import SETTINGS
from klom_bench.plugin.settings import Settings
from klom_bench.report.table import table


class Summary:
    """Collects the records that reports carry, prints one table, and fails an empty run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._records: dict[str, dict[str, Any]] = {}
        self._tests: set[str] = set()
        self._passed: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Which tests should measure."""
        self._tests |= {item.nodeid for item in session.items}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """The same under xdist, where the process that reports collects nothing."""
        self._tests |= set(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of a test."""
        self._tests.add(report.nodeid)
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        record = getattr(report, "klom", None)
        if record is not None:
            self._records[report.nodeid] = record

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """A run that measured nothing, or a test that passed unmeasured, must not look green."""
        config = session.config
        if config.getoption("klom_plan") or config.getoption("collectonly"):
            return
        unmeasured = self._passed - set(self._records)
        if exitstatus == pytest.ExitCode.OK and (unmeasured or not self._records):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
    ) -> None:
        """The table, and what it rests on."""
        if config.getoption("klom_plan") or config.getoption("collectonly"):
            return
        if exitstatus == pytest.ExitCode.USAGE_ERROR:
            return
        write = terminalreporter.write_line
        records = sorted(self._records.values(), key=self._place)
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
        write(
            f"{len(records)} of {len(self._tests)} tests measured"
            + (f": {counts}" if counts else ""),
            red=len(records) < len(self._tests),
        )
        if verdicts["pass"]:
            write("pass: within the limits set for the test; whether it forgets, the scores say")
        where = self._settings.gates_file or config.rootpath / "pyproject.toml"
        if verdicts["none"]:
            write(
                f"no gate: nothing was asserted; set limits in [tool.klom.gates] of {where} "
                "or with --klom-max forget_p95=LIMIT"
            )
        write(f"store: {config.stash[SETTINGS].store.root}")

    def _place(self, record: dict[str, Any]) -> tuple[int, int]:
        """Forget sets and methods in the order asked for, however workers shared them."""
        names = [forget_set.name for forget_set in self._settings.forget_sets]
        methods = self._settings.options.methods
        return names.index(record["forget_set"]), methods.index(record["method"])
