"""pytest-benchmark under pytest-xdist: measured by workers, saved and compared by the controller.

pytest-benchmark switches itself off where xdist is active: it measures nothing, writes nothing,
compares nothing, and the run is green. With --klom-method workers measure all the same, each
measurement travels on the report of its test's teardown, and the controller refills
pytest-benchmark's session, which then saves, compares and prints as in a serial run. A serial run
has neither `Worker` nor `Controller`.
"""

import json
import math
import os
import shlex
import signal
from collections.abc import Generator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytest_benchmark.session import PerformanceRegression
from pytest_benchmark.stats import Metadata
from pytest_benchmark.utils import safe_dumps

from klom_bench.plugin.distribution import workers
from klom_bench.plugin.keys import BENCHMARK_ONLY, ENDED, OUTCOME, Outcome, outcome_of
from klom_bench.plugin.run import Run

SAVING = ("json", "save", "autosave", "compare", "compare_fail")
OF_ITS_TABLE = tuple(
    f"--benchmark-{name}"
    for name in (
        "columns", "compare", "group-by", "histogram", "name", "sort", "time-unit", "verbose",
    )
)  # fmt: skip
"""How options begin that ask for pytest-benchmark's table, or change it."""


class Worker:
    """Measures, and leaves saving and comparing to the controller."""

    def __init__(self, config: pytest.Config) -> None:
        for name in SAVING:
            setattr(config.option, f"benchmark_{name}", None)
        _postpone_only(config)

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Switch pytest-benchmark on."""
        _enable(session.config)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Generator[None, Any, Any]:
        """Attach the measurement."""
        report = yield
        # The teardown report comes once a test, whereas every subtest makes a call report.
        measured = getattr(getattr(item, "funcargs", {}).get("benchmark"), "stats", None)
        if call.when == "teardown" and measured:
            report.klom = item.stash.setdefault(OUTCOME, Outcome())
            report.klom["benchmark"] = _text(measured)
        return report


class Controller:
    """Refills pytest-benchmark's session from the reports, in the order of collection."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ids: Sequence[str] = ()
        self._nodes: list[Any] = []
        _postpone_only(config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Which workers there are."""
        self._nodes.append(node)

    def pytest_keyboard_interrupt(self) -> None:
        """Ctrl-C reaches workers, too; SIGTERM came to this process alone."""
        ended = self._config.stash.get(ENDED, None)
        if ended is None or ended.signal != signal.SIGTERM:
            return
        for node in self._nodes:
            process = getattr(getattr(node.gateway, "_io", None), "popen", None)
            if process is not None and process.poll() is None:
                process.send_signal(signal.SIGINT)

    def pytest_sessionstart(self) -> None:
        """Have pytest-benchmark believe that it measures here."""
        _enable(self._config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """All workers collect the same tests."""
        self._ids = ids

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Receive a measurement."""
        if "benchmark" in (outcome := outcome_of(report)):
            benchmark = _measurement(outcome["benchmark"])
            benchmark.extra_info["worker"] = getattr(report, "worker_id", None)
            _session(self._config).benchmarks.append(benchmark)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Sort before pytest-benchmark saves."""
        place = {name: i for i, name in enumerate(self._ids)}
        _session(self._config).benchmarks.sort(key=lambda b: place.get(b.fullname, len(place)))
        return (yield)


class Saving:
    """What pytest-benchmark saves and says of a run, serial or not."""

    def __init__(self, run: Run) -> None:
        self._device = run.bench.device
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Whose exit status tells of a regression; the table of times is there when asked for."""
        self._session = session
        if not table_asked(session.config):
            _session(session.config).quiet = True

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_machine_info(
        self, config: pytest.Config, machine_info: dict[str, Any]
    ) -> None:
        """Times are comparable on the same GPU, torch and number of workers only."""
        machine_info |= _machine(self._device, workers(config))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, None, None]:
        """One measurement a test: of one that was run again, the last, as in the table.

        What was cut off has none, and pytest-benchmark cannot save that.
        """
        benchmarks = _session(session.config).benchmarks
        benchmarks[:] = {b.fullname: b for b in benchmarks if b.stats.data}.values()
        return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_terminal_summary(self) -> Generator[None, None, None]:
        """A regression of the time fails the run; pytest-benchmark has said which."""
        try:
            yield
        except PerformanceRegression:
            if self._session:
                self._session.exitstatus = pytest.ExitCode.TESTS_FAILED


def table_asked(config: pytest.Config) -> bool:
    """Whether an option that is about pytest-benchmark's table is given, wherever options are."""
    given = (
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
        *config.getini("addopts"),
        *map(str, config.invocation_params.args),
    )
    return any(text.startswith(OF_ITS_TABLE) for text in given)


def _machine(device: torch.device, workers: int) -> dict[str, Any]:
    names: list[str] = []
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if device.index is not None or not workers:
            names = [names[device.index or 0]]
    return {
        "gpu": names or None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "workers": workers,
        "workers_per_gpu": math.ceil(workers / len(names)) if names and workers else None,
    }


def _session(config: pytest.Config) -> Any:
    return config.pluginmanager.get_plugin("pytest-benchmark")


def _postpone_only(config: pytest.Config) -> None:
    """pytest-benchmark refuses --benchmark-only under xdist, where it believes to be disabled."""
    config.stash[BENCHMARK_ONLY] = config.option.benchmark_only
    config.option.benchmark_only = False


def _enable(config: pytest.Config) -> None:
    session, option = _session(config), config.option
    session.xdist_warning = False
    session.disabled = option.benchmark_disable and not option.benchmark_enable
    session.only = config.stash[BENCHMARK_ONLY]
    if session.only and session.disabled:
        raise pytest.UsageError("Can't have both --benchmark-only and --benchmark-disable options.")


def _text(measured: Metadata) -> str:
    content = measured.as_dict(include_data=True) | {"has_error": measured.has_error}
    text: str = safe_dumps(content)
    return text


def _measurement(text: str) -> Metadata:
    content = json.loads(text)
    stats, options = content.pop("stats"), content.pop("options")
    fixture = SimpleNamespace(cprofile_stats=None, **content)
    measured = Metadata(fixture, iterations=stats["iterations"], options=options)
    measured.stats.data.extend(stats["data"])
    return measured
