"""The pytest plugin: hooks only. Every pytest run of an environment imports this module."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from klom_bench.imports import kept
from klom_bench.plugin import collection, distribution, hookspec
from klom_bench.plugin.asked import read_options
from klom_bench.plugin.collection import is_klom, is_margins
from klom_bench.plugin.fixtures import klom as klom
from klom_bench.plugin.fixtures import klom_cell as klom_cell
from klom_bench.plugin.fixtures import klom_conformance as klom_conformance
from klom_bench.plugin.keys import (
    DESELECTED,
    ENDED,
    GATING,
    OUTCOME,
    PROBLEM,
    RUN,
    SHOW,
    UNASKED,
    UNCHECKED,
)
from klom_bench.plugin.margins import Margins, refuse, refuse_without_margins, unscored
from klom_bench.plugin.options import add_options
from klom_bench.plugin.short_summary import shorten
from klom_bench.plugin.timing import (
    give_clocks,
    refuse_what_cannot_be_timed,
    refuse_without_benchmark,
)

ONLY_WITH_METHODS = ("plan", "epochs", "tuned")
"""Options that mean nothing without --klom-method."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini values."""
    add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Hooks for tasks, forget sets and records, and those of pytest-xdist."""
    pluginmanager.add_hookspecs(hookspec)
    pluginmanager.register(distribution, "klom-distribution")


def pytest_configure(config: pytest.Config) -> None:
    """Check every option before anything is collected, and act only with --klom-method."""
    config.addinivalue_line(
        "markers", "klom(forget_p95=2.0, ...): limits of KLOM tests; --klom-max wins over them"
    )
    config.addinivalue_line(
        "markers", "klom_margins: scores margins with `klom.score`; set for you"
    )
    options = read_options(config)
    if not options.methods:
        refuse(config, ONLY_WITH_METHODS)
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(Margins(config), "klom-margins")
        return
    refuse_what_cannot_be_timed(config)
    with kept():
        from klom_bench.errors import KlomError
        from klom_bench.interrupt import as_interrupt
        from klom_bench.plugin import bridge
        from klom_bench.plugin.fixtures import methods_as_fixtures
        from klom_bench.plugin.progress import WorkersProgress, open_progress
        from klom_bench.plugin.reporting import register_reports
        from klom_bench.plugin.run import resolve

    try:
        run = resolve(options, config)
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[RUN], config.stash[GATING] = run, run.gating
    config.add_cleanup(run.bench.store.engine.close)
    register = config.pluginmanager.register
    register(methods_as_fixtures(run.known_methods), "klom-methods")
    if hasattr(config, "workerinput"):
        register(bridge.Worker(config), "klom-bridge")
    else:
        until_the_end = ExitStack()
        config.add_cleanup(until_the_end.close)
        config.stash[ENDED] = until_the_end.enter_context(as_interrupt())
        config.stash[SHOW] = open_progress(config)
        register_reports(config, run.gating, run)
        register(bridge.Saving(run), "klom-saving")
        if distribution.workers(config):
            register(bridge.Controller(config), "klom-bridge")
            if config.stash[SHOW]:
                register(WorkersProgress(config), "klom-progress")


def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """--klom-list."""
    if not config.getoption("klom_list"):
        return None
    from klom_bench.errors import KlomError
    from klom_bench.found import loaded
    from klom_bench.plugin.run import methods_of, tasks_of
    from klom_bench.report.listing import listing

    try:
        sys.stdout.write(listing(loaded(tasks_of(config)), loaded(methods_of(config))))
    except (KlomError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error
    return 0


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Is there what records?"""
    if RUN in session.config.stash:
        refuse_without_benchmark(session.config)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test a forget set and method, one conformance test a method."""
    collection.parametrize(metafunc)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what scores margins, before -m chooses."""
    if is_margins(item):
        item.add_marker("klom_margins")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """With --klom-method only KLOM tests run; without it, all others; those of margins in both."""
    run = config.stash.get(RUN, None)
    chosen: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        (chosen if is_klom(item) == bool(run) or is_margins(item) else dropped).append(item)
    if dropped:
        items[:] = chosen
        config.hook.pytest_deselected(items=dropped)
    if run is None and dropped and not chosen:
        config.stash[UNASKED] = len(dropped)
    if run is None:
        refuse_without_margins(config, any(map(is_margins, chosen)))
        return
    chosen = [item for item in chosen if is_klom(item)]
    give_clocks(chosen)
    if (problem := collection.problem_of(session, run, chosen)) is None:
        if run.gating.together:
            from klom_bench.plugin.family import gated_together

            config.stash[GATING] = gated_together(run, chosen)
        return
    config.stash[PROBLEM] = problem
    if not hasattr(config, "workerinput"):  # in a worker a UsageError would be an INTERNALERROR
        raise pytest.UsageError(problem)


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """How many KLOM tests others have taken away, before what is left is looked at."""
    for item in items:
        if RUN in item.config.stash and is_klom(item):
            item.config.stash[DESELECTED] = item.config.stash.get(DESELECTED, 0) + 1


def pytest_report_collectionfinish(config: pytest.Config) -> str | None:
    """Where KLOM tests are all there is, why none of them runs."""
    if not (count := config.stash.get(UNASKED, 0)):
        return None
    return f"klom: {count} KLOM tests run with --klom-method=NAME only (--klom-list; klom help)"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """--klom-plan."""
    if not session.config.getoption("klom_plan"):
        return None
    from klom_bench.errors import KlomError
    from klom_bench.plugin.plan import plan

    try:
        run = session.config.stash[RUN]
        text = plan(run, session.items)
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error
    session.config.get_terminal_writer().write(text)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    """A test that leaves out what it is there for must not pass."""
    result = yield
    if unscored(pyfuncitem.stash):
        pytest.fail("klom.score was not called: nothing was scored", pytrace=False)
    if text := pyfuncitem.stash.get(UNCHECKED, None):
        pytest.fail(
            f"klom.check was not called with the record of this test: {text}", pytrace=False
        )
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Put what a test leaves behind on its report, which travels from xdist's workers, too."""
    report = yield
    if is_klom(item) or OUTCOME in item.stash:
        shorten(report)
    # The teardown report comes once a test, whereas every subtest makes a call report.
    if report.when == "teardown" and OUTCOME in item.stash:
        report.klom = item.stash[OUTCOME]
    return report


def pytest_report_header(config: pytest.Config) -> str | None:
    """One line: what is measured, on what."""
    run = config.stash.get(RUN, None)
    if run is None:
        return None
    options, count = run.options, distribution.workers(config)
    share = distribution.sharing(count, options.device) if count else ""
    where = run.bench.device if run.bench.store.engine.here else options.engine
    many = len(run.variants) > 6
    least = f"{options.looks[0]} to " if options.looks else ""
    names = f"{len(run.variants)} methods" if many else ", ".join(run.variants)
    return (
        f"klom: {names} on {run.bench.task.name} "
        f"({len(run.bench.forget_sets)} forget sets), {least}{options.models} models against "
        f"{least and 'up to '}{options.oracles} oracles, seed {options.seed}, "
        f"estimator {run.bench.estimator.name}, "
        f"{where}{share}, store {run.bench.store.root}"
    )
