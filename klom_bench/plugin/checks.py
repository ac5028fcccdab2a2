"""What can be checked only when tests are collected: methods may be fixtures of the user's."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from klom_bench.cell.cell import Cell, unfit_for
from klom_bench.cell.gates import check_names, checked_limits
from klom_bench.cell.limits import Limits
from klom_bench.cell.variants import Variant
from klom_bench.errors import KlomError, unknown
from klom_bench.methods.method import Method
from klom_bench.plugin.gating import given_by, given_to
from klom_bench.plugin.run import Run
from klom_bench.plugin.timing import check_benchmark


def check(session: pytest.Session, run: Run, items: Sequence[pytest.Item]) -> None:
    """KlomError for the first thing that is wrong."""
    _check_methods(session, run, items)
    _check_baseline(run, items)
    _check_fit(run, items)
    _check_looks(run, items)
    check_benchmark(items)


def _check_baseline(run: Run, items: Sequence[pytest.Item]) -> None:
    """KlomError where no test that will run is in the baseline."""
    if run.gating.baseline:
        asked = [of for item in items if (of := asked_by(item))]
        tests = {(run.bench.task.name, forget_set, label) for forget_set, label in asked}
        if tests:  # conformance tests are held against nothing
            run.gating.baseline.refuse_strangers(tests)


def _check_fit(run: Run, items: Sequence[pytest.Item]) -> None:
    """KlomError where none of the tests is of a method that applies there."""
    reasons = []
    for item in items:
        if (known := known_method(run, item)) is None:
            return
        cell = known_cell(run, item)
        reason = cell.unfit if cell else unfit_for(known[0], run.bench.task)
        if reason is None:
            return
        reasons.append(reason)
    if reasons:
        raise KlomError(f"nothing can be measured: {reasons[0]}")


def _params(item: pytest.Item) -> Mapping[str, Any]:
    return item.callspec.params if isinstance(item, pytest.Function) else {}


def asked_by(item: pytest.Item) -> tuple[str, str] | None:
    """Forget set and label of a test; None for one that measures no cell, as of conformance."""
    params = _params(item)
    if "klom_forget_set" not in params:
        return None
    return str(params["klom_forget_set"]), str(params["klom_method"])


def known_method(run: Run, item: pytest.Item) -> tuple[Method, Variant] | None:
    """The method of a test; None where it is a fixture of the user's, known to the test only."""
    variant = run.variants.get(str(_params(item).get("klom_method")))
    if variant is None or variant.method not in run.known_methods:
        return None
    if len(item.session._fixturemanager.getfixturedefs(variant.method, item) or ()) > 1:
        return None  # the user's takes its place
    return run.known_methods[variant.method](), variant


def known_cell(run: Run, item: pytest.Item) -> Cell | None:
    """The cell of a test; None where it has none, or its method is not known."""
    asked, known = asked_by(item), known_method(run, item)
    return run.bench.cell(*known, asked[0]) if asked and known else None


def limits_of(run: Run, item: pytest.Item) -> Limits | None:
    """What a test is held against; None for one that measures no cell."""
    if (asked := asked_by(item)) is None:
        return None
    forget_set, label = asked
    limits = run.gating.limits(run.variants[label].method, forget_set, given_to(item))
    baseline = limits.baseline
    if baseline and (run.bench.task.name, forget_set, label) not in baseline.tests:
        return replace(limits, regressions={})
    return limits


def _check_looks(run: Run, items: Sequence[pytest.Item]) -> None:
    """KlomError where models are to be added until gates are settled, and a test has none."""
    if not run.bench.looks:
        return
    for item in items:
        limits = limits_of(run, item)
        if limits is None or limits.limits or limits.regressions:
            continue
        if (cell := known_cell(run, item)) and cell.unfit:
            continue
        beside = ", and the baseline does not have it" * (limits.baseline is not None)
        raise KlomError(
            "--klom-models=auto adds models until each gate is settled, and "
            f"{item.nodeid} has no gate{beside}: set a limit, as --klom-max forget_excess=0.2 "
            "(`klom help gates`), or a number of models"
        )


def _check_methods(session: pytest.Session, run: Run, items: Sequence[pytest.Item]) -> None:
    """KlomError where a method is no fixture, or a name or value given for it does not fit."""

    def fixtures(name: str) -> int:
        # pytest has no public way to ask whether a fixture exists without setting it up.
        lookup = session._fixturemanager.getfixturedefs
        return max(len(lookup(name, item) or ()) for item in items)

    known = run.known_methods
    for variant in run.variants.values():
        name = variant.method
        if not fixtures(name):
            raise KlomError(
                f"{unknown('method', name, known)}; or write a fixture {name!r} that returns "
                "your method (`klom help method`)"
            )
        if fixtures(name) == 1 and name in known:  # with two, the user's takes its place
            run.bench.hyperparameters(known[name](), variant)
    others = [name for name in run.gating.gates if fixtures(name)]
    methods = dict.fromkeys((*run.methods, *others, *known))
    check_names(run.gating.gates, methods, _known_forget_sets(run))
    for item in items:
        for marker in item.iter_markers("klom"):
            where = f"@pytest.mark.klom of {item.nodeid}"
            checked_limits(given_by(marker, where), where)


def _known_forget_sets(run: Run) -> list[str]:
    """Those of the task, and of others as far as [tool.klom.gates] names them."""
    tables = [table for table in run.gating.gates.values() if isinstance(table, dict)]
    named = {name for table in tables for name, part in table.items() if isinstance(part, dict)}
    known = dict.fromkeys(run.bench.task.forget_sets)
    for load in run.known_tasks.values():
        if named <= {*known}:  # nothing more is imported
            break
        known |= dict.fromkeys(load().forget_sets)
    return [*known]
