"""What is said at the end of a run: lives in the process that reports, never in a worker."""

from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from klom_bench.cell import baseline
from klom_bench.cell.gates import MARGINS, TABLE
from klom_bench.cell.record_json import RecordJson, Row, UnfitJson, test_of
from klom_bench.errors import KlomError, visible, visible_lines
from klom_bench.plugin.collection import is_of
from klom_bench.plugin.gating import Gating
from klom_bench.plugin.keys import PROBLEM, outcome_of
from klom_bench.plugin.short_summary import is_cut, reason
from klom_bench.plugin.timing import UNUSED
from klom_bench.report.changes import changes
from klom_bench.report.remarks import VERDICTS, in_all, looked, together
from klom_bench.report.table import by_headline, named

if TYPE_CHECKING:
    from klom_bench.plugin.run import Run


class TerminalReport:
    """Collects the records that reports carry, prints one table, and fails an empty run."""

    def __init__(self, gating: Gating, run: "Run | None", config: pytest.Config) -> None:
        self._gating, self._run, self._config = gating, run, config
        self._found: dict[str, RecordJson] = {}
        self._tests: set[str] = set()
        self._kept = ""
        self._conformance: set[str] = set()
        self._passed: set[str] = set()
        self._hold: set[str] = set()
        self._unfit: dict[str, UnfitJson] = {}
        self._saved: list[str] = []
        self._settled: dict[str, str | None] = {}
        self._failed: dict[str, pytest.TestReport] = {}

    def pytest_keyboard_interrupt(self) -> None:
        """Say what is kept, and not that a test that was cut off has used no benchmark."""
        self._kept = "what was finished is kept, and the same command goes on; "
        self._config.addinivalue_line("filterwarnings", UNUSED)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Which tests will run."""
        self._expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """The same under xdist, where the process that reports collects nothing."""
        self._expect(ids)

    def _expect(self, ids: Iterable[str]) -> None:
        names = list(self._run.bench.forget_sets) if self._run else []
        for test in ids:
            (self._tests if is_of(test, names) else self._conformance).add(test)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the record of a test."""
        if report.when == "call" and report.passed:
            self._passed.add(report.nodeid)
        if report.failed:
            self._failed.setdefault(report.nodeid, report)
        outcome = outcome_of(report)
        if outcome.get("margins"):
            self._tests.add(report.nodeid)
            self._conformance.discard(report.nodeid)
        if "record" in outcome:
            self._found[report.nodeid] = outcome["record"]
        if "unfit" in outcome:
            self._unfit[report.nodeid] = outcome["unfit"]
        if outcome.get("conforms"):
            self._hold.add(report.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-benchmark saves records
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, None, None]:
        """Settle what is open, save, and fail what must not look green."""
        if self.runs():
            self._end(session, exitstatus)
        return (yield)

    def _end(self, session: pytest.Session, exitstatus: int) -> None:
        """A run that measured nothing, or a test that passed unmeasured, must not look green."""
        self._settle()
        failed = self.failed_at_the_end()
        unmeasured = (self._passed - self._hold) - set(self._found)
        nothing = not self._found if self._tests else not self._hold
        saved = self._save(bool(exitstatus or failed))
        if self._run is None:  # others' tests run, too, and those that score nothing have failed
            unmeasured, nothing = set(), self._shares_nothing()
        wrong = unmeasured or nothing or not saved or self._names_twice() or failed
        if exitstatus == pytest.ExitCode.OK and wrong:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _settle(self) -> None:
        """Judge gates together, where that is asked for; what is saved of them, too."""
        if not self._gating.together or not self._found:
            return
        from klom_bench.plugin.family import settled

        self._settled = settled(self._found, self._gating.confidence)
        session: Any = self._config.pluginmanager.get_plugin("pytest-benchmark")
        for benchmark in session.benchmarks:
            if benchmark.fullname in self._found:
                benchmark.extra_info["klom"] = self._found[benchmark.fullname]

    def failed_at_the_end(self) -> dict[str, str]:
        """What is wrong with tests that passed until all gates were judged together."""
        return {test: text for test, text in self._settled.items() if text}

    def _names_twice(self) -> list[str]:
        """Names of margins that two tests have: files and baselines would hold one of the two."""
        names = Counter(r["forget_set"] for r in self._found.values() if r["method"] == MARGINS)
        return sorted(name for name, count in names.items() if count > 1)

    def _shares_nothing(self) -> bool:
        """Whether there is a baseline, and it has none of the tests."""
        baseline, found = self._gating.baseline, self._found.values()
        return bool(baseline and not any(test_of(r) in baseline.tests for r in found))

    def _save(self, red: bool) -> bool:
        """--klom-save-baseline; whether all is well."""
        options = self._gating.options
        path, why = options.save_baseline, ""
        if path is None:
            return True
        gone = self._tests_gone(path)
        if not self._found or len(self._found) < len(self._fit()):
            why = f"not all tests were measured; {path} is as it was"
        elif red and options.baseline and options.baseline.resolve() == path.resolve():
            why = (
                f"tests failed against this very file; leave out --klom-baseline to replace {path}"
            )
        else:
            try:
                baseline.save(path, self.records())
            except OSError as error:
                why = f"{path} cannot be written ({error.strerror})"
            except KlomError as error:
                why = str(error)
        told = f"baseline not saved: {why}" if why else f"baseline saved: {path}"
        if gone and not why:
            told += f"; {gone} tests that it had were not run now, and are no longer in it"
        self._saved = [told]
        return not why

    def _tests_gone(self, path: Path) -> int:
        """How many tests of the old file this run has not."""
        if not path.is_file():
            return 0
        try:
            old = baseline.load(path).tests
        except KlomError:
            return 0
        return len(set(old) - {test_of(record) for record in self._found.values()})

    def _fit(self) -> set[str]:
        """Tests of methods that apply where they are tried."""
        return self._tests - set(self._unfit)

    def unmeasured(self) -> set[str]:
        """Tests of which there should be a record, and is none."""
        return self._fit() - set(self._found)

    def judged(self) -> set[str]:
        """Tests that fail by a limit, which their records say."""
        open_or_worse = ("fail", "inconclusive")
        return {test for test, r in self._found.items() if r["verdict"] in open_or_worse}

    def runs(self) -> bool:
        """Whether tests are to run: some options of pytest only show what there is."""
        shows = (
            "klom_plan",
            "collectonly",
            "showfixtures",
            "show_fixtures_per_test",
            "setuponly",
            "setupplan",
        )
        return not any(getattr(self._config.option, name, False) for name in shows)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, exitstatus: int
    ) -> Generator[None, None, None]:
        """The table, and what it rests on, below what other plugins say, even if one of them
        raises: pytest-benchmark does so where times regressed."""
        try:
            return (yield)
        finally:
            if self.runs() and exitstatus != pytest.ExitCode.USAGE_ERROR:
                self._print(terminalreporter)

    def _print(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.ensure_newline()
        terminalreporter.section("KLOM", sep="=")
        records = self.records()
        if records:
            for rows in by_headline(self.rows()):
                for text in rows:
                    terminalreporter.write_line(text)
        complete = len(records) == len(self._fit())
        for text in self.lines():
            red = text.startswith("error: ") or (not complete and " tests measured" in text)
            terminalreporter.write_line(visible_lines(text), red=red)
        for test, report in self._failed.items():
            if (record := self._found.get(test)) and is_cut(report, terminalreporter):
                text = f"failed: {record['forget_set']} {named(record)}: {reason(report)}"
                terminalreporter.write_line(visible(text), red=True)

    def add(self, line: str) -> None:
        """One more line below the table, as of where something was saved."""
        self._saved.append(line)

    def add_error(self, session: pytest.Session, why: str) -> None:
        """One more line, of what makes a run red that may have been green."""
        self.add(f"error: {why}")
        if session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def records(self) -> list[RecordJson]:
        """What was measured, in the order of `rows`."""
        return [row for row in self.rows() if "unfit" not in row]

    def rows(self) -> list[Row]:
        """Forget sets and methods in the order asked for, however workers shared them.

        Where a method does not apply, a row says why instead of scores.
        """
        names = list(self._run.bench.forget_sets) if self._run else []
        methods = list(self._run.variants) if self._run else []

        def place(record: Row) -> tuple[int, int, str]:
            forget_set, method = record["forget_set"], test_of(record)[2]  # a test may rename them
            return (
                names.index(forget_set) if forget_set in names else len(names),
                methods.index(method) if method in methods else len(methods),
                method,
            )

        unfit = [row for row in self._unfit.values() if row["forget_set"]]
        return sorted([*self._found.values(), *unfit], key=place)

    def lines(self) -> list[str]:
        """What the run says of itself below the table."""
        gating, records, lines = self._gating, self.records(), list[str]()
        verdicts = Counter(record["verdict"] for record in records)
        counts = ", ".join(f"{n} {VERDICTS.get(name, name)}" for name, n in verdicts.items())
        if problem := self._config.stash.get(PROBLEM, None):
            lines.append(f"error: {problem}")
        if twice := self._names_twice():
            lines.append(
                f"error: several tests scored margins named {baseline.few(twice)}: give each a "
                "name of its own, klom.score(..., name=...)"
            )
        if self._run is None:
            self._conformance.clear()  # these are tests of others
        if self._tests or not self._conformance:
            measured = f"{len(records)} of {len(self._fit())} tests measured"
            lines.append(measured + (f": {counts}" if counts else ""))
        lines += [*together(records), *looked(records), *in_all(records)]
        lines += [f"error: {test}: {text}" for test, text in self.failed_at_the_end().items()]
        reasons = Counter(row["unfit"] for row in self._unfit.values())
        lines += [
            f"n/a: {reason}: {count} test{'s' * (count > 1)} skipped"
            for reason, count in reasons.items()
        ]
        if self._unfit and not records and not self._fit():
            lines.append("nothing was measured: no method applies to any of these tests")
        if any(record["sees_oracles"] for record in records):
            lines.append("*: sees the oracles that it is scored against: an upper bound")
        if rests := {count for record in records if (count := record["rests_on"])}:
            models = "/".join(map(str, sorted(rests)))
            lines.append(f"+: rests on {models} models on random halves, which are not in its cost")
        if self._conformance:
            fit = len(self._conformance - set(self._unfit))
            lines.append(f"conformance: {len(self._hold)} of {fit} tests hold")
        if verdicts["pass"]:
            lines.append(
                "within limits: no score is above those set for the test; whether it forgets, the "
                "scores say"
            )
        where = gating.gates_file or self._config.rootpath / "pyproject.toml"
        if verdicts["none"]:
            some = f" of {verdicts['none']} tests" if len(verdicts) > 1 else ""
            lines.append(
                f"no gate: nothing was asserted{some}; set limits in [tool.klom.gates] of {where} "
                "or with --klom-max forget_p95=LIMIT"
            )
        scored = {r["forget_set"] for r in records if r["method"] == MARGINS}
        named = {name for name, of in gating.gates.get(MARGINS, {}).items() if isinstance(of, dict)}
        if scored and (unused := sorted(named - scored)):
            lines.append(
                "limits of nothing: no test of this run scored margins named "
                f"{baseline.few(unused)}, which [{TABLE}.{MARGINS}] of {where} has"
            )
        if gating.baseline and records:
            lines += changes(gating.baseline, records, gating.regressions)
            if self._run is None and self._shares_nothing():
                lines.append("error: the baseline shares no test with this run")
        store = [f"{self._kept}store: {self._run.bench.store.root}"] if self._run else []
        return [*lines, *self._saved, *store]
