"""Fixtures: the cell of a test, the object that measures and checks it, methods."""

from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from klom_bench.plugin.collection import is_klom
from klom_bench.plugin.failures import plain_failures
from klom_bench.plugin.keys import OUTCOME, PROBLEM, RUN, UNCHECKED, Outcome
from klom_bench.plugin.klom_test import KlomTest

if TYPE_CHECKING:
    from collections.abc import Callable

    from klom_bench.cell.cell import Cell
    from klom_bench.cell.variants import Variant
    from klom_bench.conformance.subject import Subject
    from klom_bench.found import Methods
    from klom_bench.methods.method import Method


def _selected(request: pytest.FixtureRequest, label: str) -> "tuple[Method, Variant]":
    """The method of a test, which is the fixture of its name, and what is given for it."""
    from klom_bench.methods.method import method_of

    if problem := request.config.stash.get(PROBLEM, None):
        pytest.fail(problem, pytrace=False)
    variant = request.config.stash[RUN].variants[label]
    function = request.getfixturevalue(variant.method)
    return plain_failures(lambda: method_of(variant.method, function)), variant


def _start_clean(node: pytest.Item) -> None:
    """Forget what an earlier run of the same test left: plugins may run one that failed again."""
    node.stash[OUTCOME], node.stash[UNCHECKED] = Outcome(), ""
    kept = [p for p in node.user_properties if not str(p[0]).startswith("klom_")]
    node.user_properties = kept


@pytest.fixture
def klom_cell(
    request: pytest.FixtureRequest, klom_task: str, klom_forget_set: str, klom_method: str
) -> "Cell":
    """The (task, method, forget set) of this test."""
    _start_clean(request.node)
    (method, variant), run = _selected(request, klom_method), request.config.stash[RUN]
    cell = plain_failures(lambda: run.bench.cell(method, variant, klom_forget_set))
    if reason := cell.unfit:
        _skip(request.node, klom_task, klom_forget_set, method, variant, reason)
    return cell


def _skip(
    node: pytest.Item, task: str, forget_set: str, method: "Method", variant: "Variant", why: str
) -> NoReturn:
    """Leave a row that says why instead of a record."""
    from klom_bench.cell.record import NotApplicable

    row = NotApplicable(task, forget_set, variant.method, variant.setting, method.sees_oracles, why)
    node.stash[OUTCOME]["unfit"] = row.to_json()
    pytest.skip(why)


@pytest.fixture
def klom(request: pytest.FixtureRequest, benchmark: Any) -> KlomTest:
    """klom.measure(cell) or klom.score(...) -> record; klom.check(record)."""
    if problem := request.config.stash.get(PROBLEM, None):
        pytest.fail(problem, pytrace=False)
    if not is_klom(request.node):
        _start_clean(request.node)
        request.node.stash[OUTCOME]["margins"] = True
    return KlomTest(request, benchmark)


class Conformance:
    """Examines the method of a test."""

    def __init__(self, node: pytest.Item, subject: "Subject") -> None:
        self._node, self._subject = node, subject

    def check(self) -> None:
        """Fail the test where the method does not do what its docstring says."""
        from klom_bench.conformance.checks import complaints
        from klom_bench.report.failure import nonconformance

        __tracebackhide__ = True
        wrong = plain_failures(lambda: complaints(self._subject))
        self._node.stash.setdefault(OUTCOME, Outcome())["conforms"] = not wrong
        if wrong:
            pytest.fail(nonconformance(self._subject.method.name, wrong), pytrace=False)


@pytest.fixture
def klom_conformance(
    request: pytest.FixtureRequest, klom_task: str, klom_method: str
) -> Conformance:
    """klom_conformance.check(): whether the selected method does what it says."""
    from klom_bench.cell.cell import unfit_for
    from klom_bench.conformance.subject import Subject
    from klom_bench.tasks.checks import checked_model

    _start_clean(request.node)
    (method, variant), run = _selected(request, klom_method), request.config.stash[RUN]
    hyperparameters = plain_failures(lambda: run.bench.hyperparameters(method, variant))
    if reason := unfit_for(method, run.bench.task):
        _skip(request.node, klom_task, "", method, variant, reason)
    plain_failures(lambda: checked_model(run.bench.task, run.bench.device))
    subject = plain_failures(
        lambda: Subject(method, hyperparameters, run.bench.task, run.bench.device)
    )
    return Conformance(request.node, subject)


def methods_as_fixtures(methods: "Methods") -> ModuleType:
    """Built-in methods and those that were found; a fixture of the same name takes its place."""

    def fixture(name: str, load: "Callable[[], Method]") -> Any:
        @pytest.fixture(name=name, scope="session")
        def method() -> "Method":
            return plain_failures(load)

        return method

    module = ModuleType("klom_methods")  # pytest looks for fixtures in modules and classes only
    vars(module).update({name: fixture(name, load) for name, load in methods.items()})
    return module
