"""What pytest-benchmark times, and what it could not is refused before anything is measured."""

from collections.abc import Sequence

import pytest

from klom_bench.plugin.keys import CLOCK

UNUSED = "ignore:Benchmark fixture was not used at all"
"""What pytest-benchmark says of every test that fails before it measures, or does not apply."""


def give_clocks(items: Sequence[pytest.Item]) -> None:
    """Have pytest-benchmark read a clock that runs only while members are unlearned.

    It follows the timer that was asked for.
    """
    from pytest_benchmark.utils import load_timer

    from klom_bench.cell.clock import Clock

    for item in items:
        marker = item.get_closest_marker("benchmark")
        asked = dict(marker.kwargs) if marker else {}
        usual = load_timer(item.config.getoption("benchmark_timer")).target
        item.stash[CLOCK] = asked["timer"] = Clock(asked.get("timer", usual))
        item.add_marker(pytest.mark.benchmark(**asked), append=False)
        item.add_marker(pytest.mark.filterwarnings(UNUSED))


def refuse_what_cannot_be_timed(config: pytest.Config) -> None:
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


def refuse_without_benchmark(config: pytest.Config) -> None:
    """Once all plugins are configured: is pytest-benchmark still there?"""
    if not config.pluginmanager.has_plugin("pytest-benchmark"):
        raise pytest.UsageError(
            "--klom-method records with pytest-benchmark, which another plugin has switched off, "
            "as --codspeed and CODSPEED_ENV do: it would run what is timed more than once, and "
            "what is unlearned already cannot be unlearned again. Leave that out with --klom-method"
        )


def check_benchmark(items: Sequence[pytest.Item]) -> None:
    """KlomError where the fixture `benchmark` is not pytest-benchmark's, nor built on it.

    There would be no record to write, and pytest-benchmark itself ends such a run.
    """
    from klom_bench.errors import KlomError

    for item in items:
        names = getattr(item, "fixturenames", ())
        found = item.session._fixturemanager.getfixturedefs("benchmark", item) or ()
        if "benchmark" not in names or not found:
            continue
        homes = [definition.func.__module__.partition(".")[0] for definition in found]
        own = homes[::-1].index("pytest_benchmark") if "pytest_benchmark" in homes else len(found)
        if not all("benchmark" in definition.argnames for definition in found[len(found) - own :]):
            raise KlomError(
                f"KLOM tests are recorded by the fixture `benchmark` of pytest-benchmark, and "
                f"{item.nodeid} has another one (of {found[-1].func.__module__}): rename that one"
            )
