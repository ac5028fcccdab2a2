"""What can be checked only when tests are collected: methods may be fixtures of the user's."""

from collections.abc import Sequence

import pytest

from klom_bench.errors import KlomError, unknown
from klom_bench.gates import check_names, checked_limits
from klom_bench.methods import BUILT_IN
from klom_bench.methods.method import method_of
from klom_bench.plugin.settings import Settings
from klom_bench.record import unfit_for


def check_baseline(settings: Settings, items: Sequence[pytest.Item]) -> None:
    """KlomError where no test that will run is in the baseline."""
    if settings.baseline:
        params = [item.callspec.params for item in items if isinstance(item, pytest.Function)]
        tests = {
            (settings.task.name, str(p["klom_forget_set"]), str(p["klom_method"]))
            for p in params
            if "klom_forget_set" in p
        }
        if tests:  # conformance tests are held against nothing
            settings.baseline.refuse_strangers(tests)


def check_benchmark(items: Sequence[pytest.Item]) -> None:
    """KlomError where the fixture `benchmark` is not pytest-benchmark's, nor built on it.

    There would be no record to write, and pytest-benchmark itself ends such a run.
    """
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


def check_fit(settings: Settings, items: Sequence[pytest.Item]) -> None:
    """KlomError where none of the tests is of a method that applies there."""
    reasons = []
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) else {}
        variant = settings.variants.get(str(params.get("klom_method")))
        overridden = (
            variant
            and len(item.session._fixturemanager.getfixturedefs(variant.method, item) or ()) > 1
        )
        if variant is None or variant.method not in BUILT_IN or overridden:
            return
        method = method_of(variant.method, BUILT_IN[variant.method])
        if "klom_forget_set" in params:
            reason = settings.cell(method, variant, str(params["klom_forget_set"])).unfit
        else:
            reason = unfit_for(method, settings.task)
        if reason is None:
            return
        reasons.append(reason)
    if reasons:
        raise KlomError(f"nothing can be measured: {reasons[0]}")


def check_methods(
    session: pytest.Session, settings: Settings, items: Sequence[pytest.Item]
) -> None:
    """KlomError where a method is no fixture, or a name or value given for it does not fit."""

    def fixtures(name: str) -> int:
        # pytest has no public way to ask whether a fixture exists without setting it up.
        lookup = session._fixturemanager.getfixturedefs
        return max(len(lookup(name, item) or ()) for item in items)

    for variant in settings.variants.values():
        name = variant.method
        if not fixtures(name):
            raise KlomError(
                f"{unknown('method', name, BUILT_IN)}; or write a fixture {name!r} that returns "
                "your method (README, 'A method of your own')"
            )
        if fixtures(name) == 1 and name in BUILT_IN:  # with two, the user's takes its place
            settings.hyperparameters(method_of(name, BUILT_IN[name]), variant)
    others = [name for name in settings.gates if fixtures(name)]
    methods = dict.fromkeys((*settings.options.methods, *others, *BUILT_IN))
    check_names(settings.gates, methods, settings.known_forget_sets)
    for item in items:
        for marker in item.iter_markers("klom"):
            if marker.args:
                raise KlomError(
                    f"@pytest.mark.klom of {item.nodeid} has {marker.args!r}: limits are given by "
                    "name, as @pytest.mark.klom(forget_p95=2.0)"
                )
            checked_limits(marker.kwargs, f"@pytest.mark.klom of {item.nodeid}")
