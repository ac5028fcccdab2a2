"""The pytest plugin: hooks only. Every pytest run of an environment imports this module."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from klom_bench.plugin import distribution, hookspec
from klom_bench.plugin.fixtures import klom as klom
from klom_bench.plugin.fixtures import klom_cell as klom_cell
from klom_bench.plugin.fixtures import klom_conformance as klom_conformance
from klom_bench.plugin.keys import (
    CONFORMS,
    DESELECTED,
    ENDED,
    PROBLEM,
    RECORD,
    SETTINGS,
    TERMINAL,
    UNFIT,
)
from klom_bench.plugin.options import add_options, read_options

if TYPE_CHECKING:
    from klom_bench.plugin.settings import Settings

KLOM_FIXTURES = {"klom_cell", "klom_conformance"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini values."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Hooks for tasks and forget sets, and those of pytest-xdist."""
    pluginmanager.add_hookspecs(hookspec)
    pluginmanager.register(distribution, "klom-distribution")


def pytest_configure(config: pytest.Config) -> None:
    """Check every option before anything is collected, and act only with --klom-method."""
    config.addinivalue_line(
        "markers", "klom(forget_p95=2.0, ...): limits of KLOM tests; --klom-max wins over them"
    )
    options = read_options(config)
    if not options.methods:
        for name in ("plan", "baseline", "save_baseline", "max_regression", "epochs", "tuned"):
            if config.getoption(f"klom_{name}"):
                flag = f"--klom-{name.replace('_', '-')}"
                raise pytest.UsageError(f"{flag} needs --klom-method: see --klom-list")
        return
    _refuse_what_cannot_be_timed(config)
    from klom_bench.errors import KlomError
    from klom_bench.interrupt import as_interrupt
    from klom_bench.plugin import bridge
    from klom_bench.plugin.fixtures import built_in_methods
    from klom_bench.plugin.github import GitHub
    from klom_bench.plugin.progress import WorkersProgress, open_terminal
    from klom_bench.plugin.settings import resolve
    from klom_bench.plugin.summary import Summary

    try:
        settings = resolve(options, config)
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[SETTINGS] = settings
    register = config.pluginmanager.register
    register(built_in_methods(), "klom-methods")
    if hasattr(config, "workerinput"):
        register(bridge.Worker(config), "klom-bridge")
    else:
        until_the_end = ExitStack()
        config.add_cleanup(until_the_end.close)
        config.stash[ENDED] = until_the_end.enter_context(as_interrupt())
        config.stash[TERMINAL] = open_terminal()
        summary = Summary(settings, config)
        register(summary, "klom-summary")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            register(GitHub(summary), "klom-github")
        register(bridge.Saving(settings), "klom-saving")
        if distribution.workers(config):
            register(bridge.Controller(config), "klom-bridge")
            if config.stash[TERMINAL]:
                register(WorkersProgress(config), "klom-progress")


def _refuse_what_cannot_be_timed(config: pytest.Config) -> None:
    """Before anything is measured, rather than lose it at the end."""
    if not config.pluginmanager.has_plugin("benchmark"):
        raise pytest.UsageError(
            "--klom-method records with pytest-benchmark, which -p no:benchmark switches off: "
            "leave that out (--benchmark-disable runs the tests without recording times)"
        )
    if config.getoption("benchmark_cprofile"):
        raise pytest.UsageError(
            "--benchmark-cprofile runs everything a second time, and what is unlearned already "
            "cannot be unlearned again: leave it out with --klom-method"
        )
    target = config.getoption("benchmark_json")
    if target and not (config.invocation_params.dir / target).parent.is_dir():
        raise pytest.UsageError(f"--benchmark-json={target}: the folder is not there")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close what pytest_configure opened."""
    if terminal := config.stash.get(TERMINAL, None):
        terminal.close()


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """--klom-list."""
    if not config.getoption("klom_list"):
        return None
    from klom_bench.errors import KlomError
    from klom_bench.plugin.settings import tasks_of
    from klom_bench.report.listing import listing

    try:
        sys.stdout.write(listing(tasks_of(config)))
    except (KlomError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    return 0


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Once all plugins are configured: is pytest-benchmark still there?"""
    config = session.config
    if SETTINGS in config.stash and not config.pluginmanager.has_plugin("pytest-benchmark"):
        raise pytest.UsageError(
            "--klom-method records with pytest-benchmark, which another plugin has switched off, "
            "as --codspeed and CODSPEED_ENV do: it would run what is timed more than once, and "
            "what is unlearned already cannot be unlearned again. Leave that out with --klom-method"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a forget set and method, one conformance test a method."""
    if not KLOM_FIXTURES & set(metafunc.fixturenames):
        return
    settings = metafunc.config.stash.get(SETTINGS, None)
    # Plain strings, so that pytest-benchmark can save and group by them.
    parameters: dict[str, list[str]] = (
        {"klom_task": ["no"], "klom_forget_set": ["klom"], "klom_method": ["method"]}
        if settings is None
        else {
            "klom_task": [settings.task.name],
            "klom_forget_set": [forget_set.name for forget_set in settings.forget_sets],
            "klom_method": list(settings.variants),
        }
    )
    for name, values in parameters.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """With --klom-method only KLOM tests run; without it, all others."""
    settings = config.stash.get(SETTINGS, None)
    chosen: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        is_klom = bool(KLOM_FIXTURES & set(getattr(item, "fixturenames", ())))
        (chosen if is_klom == bool(settings) else dropped).append(item)
    if dropped:
        items[:] = chosen
        config.hook.pytest_deselected(items=dropped)
    if settings is None:
        return
    problem = _problem(session, settings, chosen)
    if problem is None:
        return
    config.stash[PROBLEM] = problem
    if not hasattr(config, "workerinput"):  # in a worker a UsageError would be an INTERNALERROR
        raise pytest.UsageError(problem)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """How many KLOM tests others have taken away, before what is left is looked at."""
    for item in items:
        if SETTINGS in item.config.stash and KLOM_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.config.stash[DESELECTED] = item.config.stash.get(DESELECTED, 0) + 1


def _problem(session: pytest.Session, settings: "Settings", items: list[pytest.Item]) -> str | None:
    """What is known only now: no KLOM test, a method that is no fixture, limits of nothing."""
    from klom_bench.errors import KlomError
    from klom_bench.plugin.collected import (
        check_baseline,
        check_benchmark,
        check_fit,
        check_methods,
    )

    if not items:
        if session.testsfailed:
            return None  # the collection errors are the story
        if count := session.config.stash.get(DESELECTED, 0):
            return (
                f"--klom-method was given, and all {count} KLOM tests were deselected: by -k, -m, "
                "--deselect or another plugin"
            )
        return (
            "--klom-method was given, but no KLOM test was collected: put\n"
            "    from klom_bench.suite import test_klom\n"
            "into a test file, and name that file or its folder"
        )
    try:
        check_methods(session, settings, items)
        check_baseline(settings, items)
        check_fit(settings, items)
        check_benchmark(items)
    except KlomError as error:
        return str(error)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """--klom-plan."""
    if not session.config.getoption("klom_plan"):
        return None
    from klom_bench.errors import KlomError
    from klom_bench.plugin.plan import plan

    try:
        settings = session.config.stash[SETTINGS]
        text = plan(settings, [item.nodeid for item in session.items])
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error
    session.config.get_terminal_writer().write(text)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Put the record on the report: it travels from xdist's workers, too."""
    report = yield
    # The teardown report comes once a test, whereas every subtest makes a call report.
    if report.when == "teardown" and RECORD in item.stash:
        report.klom = item.stash[RECORD]
    if report.when == "teardown" and CONFORMS in item.stash:
        report.klom_conforms = item.stash[CONFORMS]
    if report.when == "teardown" and UNFIT in item.stash:
        report.klom_unfit = item.stash[UNFIT]
    return report


def pytest_report_header(config: pytest.Config) -> str | None:
    """One line: what is measured, on what."""
    settings = config.stash.get(SETTINGS, None)
    if settings is None:
        return None
    options, count = settings.options, distribution.workers(config)
    share = distribution.sharing(count, options.device) if count else ""
    many = len(settings.variants) > 6
    names = f"{len(settings.variants)} methods" if many else ", ".join(settings.variants)
    return (
        f"klom: {names} on {settings.task.name} "
        f"({len(settings.forget_sets)} forget sets), {options.models} models against "
        f"{options.oracles} oracles, seed {options.seed}, estimator {settings.estimator.name}, "
        f"{settings.device}{share}, store {settings.store.root}"
    )
