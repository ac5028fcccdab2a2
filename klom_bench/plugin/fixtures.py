"""Fixtures: the cell of a test, the object that measures and checks it, the built-in methods."""

import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from traceback import walk_tb
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from klom_bench.plugin.keys import CONFORMS, PROBLEM, RECORD, SETTINGS, UNFIT

if TYPE_CHECKING:
    from klom_bench.conformance.subject import Subject
    from klom_bench.methods.method import Method
    from klom_bench.plugin.variants import Variant
    from klom_bench.record import Cell, Record

T = TypeVar("T")
SHAPES = r"shape|size|dimension|mat1 and mat2|expected target|broadcast|unpack|\b\d-?D\b"
"""What torch and Python say where a tensor has other dimensions than it should."""
HINT = (
    "A method gets x [N, B, ...] and y [N, B] of N models at once: losses are in "
    "klom_bench.ensemble.losses; a function for one model is wrapped with klom_bench.per_model"
)


def told_plainly(work: Callable[[], T]) -> T:
    """A KlomError ends the test with its message; anything else shows where the method raised."""
    from klom_bench.errors import KlomError, visible_lines

    __tracebackhide__ = True
    try:
        return work()
    except KlomError as error:
        raise pytest.fail.Exception(visible_lines(str(error)), pytrace=False) from None
    except Exception as error:
        if _is_about_shapes(error):
            error.add_note(HINT)
        raise error.with_traceback(_from_method(error.__traceback__)) from None


def _is_about_shapes(error: Exception) -> bool:
    """Whether a batch of N models may be the cause, where a method was written for one."""
    if not isinstance(error, RuntimeError | ValueError | IndexError):
        return False
    frames = walk_tb(error.__traceback__)
    of_one = any(frame.f_code.co_filename.endswith("methods/per_model.py") for frame, _ in frames)
    return not of_one and re.search(SHAPES, str(error), re.IGNORECASE) is not None


def _from_method(traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback below what runs methods: harness, threads, pytest-benchmark."""
    between = ("klom_bench/harness", "klom_bench/ensemble/threads", "klom_bench/plugin/",
               "klom_bench/conformance/",
               "pytest_benchmark/", "concurrent/futures/")  # fmt: skip
    part = traceback
    while part and any(
        name in Path(part.tb_frame.f_code.co_filename).as_posix() for name in between
    ):
        part = part.tb_next
    return part or traceback


def _selected(request: pytest.FixtureRequest, label: str) -> "tuple[Method, Variant]":
    """The method of a test, which is the fixture of its name, and what is given for it."""
    from klom_bench.methods.method import method_of

    if problem := request.config.stash.get(PROBLEM, None):
        pytest.fail(problem, pytrace=False)
    variant = request.config.stash[SETTINGS].variants[label]
    function = request.getfixturevalue(variant.method)
    return told_plainly(lambda: method_of(variant.method, function)), variant


def _start_clean(node: pytest.Item) -> None:
    """Forget what an earlier run of the same test left: plugins may run one that failed again."""
    keys: tuple[pytest.StashKey[Any], ...] = (RECORD, UNFIT, CONFORMS)
    for key in keys:
        if key in node.stash:
            del node.stash[key]
    kept = [p for p in node.user_properties if not str(p[0]).startswith("klom_")]
    node.user_properties = kept


@pytest.fixture
def klom_cell(
    request: pytest.FixtureRequest, klom_task: str, klom_forget_set: str, klom_method: str
) -> "Cell":
    """The (task, method, forget set) of this test."""
    _start_clean(request.node)
    (method, variant), settings = _selected(request, klom_method), request.config.stash[SETTINGS]
    cell = told_plainly(lambda: settings.cell(method, variant, klom_forget_set))
    if reason := cell.unfit:
        request.node.stash[UNFIT] = {
            "task": klom_task, "forget_set": klom_forget_set, "method": variant.method,
            "setting": variant.setting, "sees_oracles": method.sees_oracles, "unfit": reason,
        }  # fmt: skip
        pytest.skip(reason)
    return cell


def properties(record: dict[str, Any]) -> list[tuple[str, Any]]:
    """Names and values for JUnit XML: the verdict and every score; plain values, for xdist."""
    from klom_bench.baseline import score
    from klom_bench.gates import METRICS

    found: list[tuple[str, Any]] = [("klom_verdict", record["verdict"])]
    for metric in METRICS:
        value = score(record, metric)
        found.append((f"klom_{metric}", "n/a" if value is None else value))
    return found


class KlomTest:
    """Measures a cell, records it, and holds it against the gates."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self._benchmark = request, benchmark
        self._settings = request.config.stash[SETTINGS]

    def measure(self, cell: "Cell") -> "Record":
        """Unlearn and score; pytest-benchmark times the unlearning alone."""
        __tracebackhide__ = True
        if RECORD in self._request.node.stash:
            pytest.fail("klom.measure was called before in this test: measure once a test")
        record = told_plainly(lambda: self._measured(cell))
        as_json = record.as_json()
        node = self._request.node
        node.stash[RECORD] = self._benchmark.extra_info["klom"] = as_json
        node.user_properties += properties(as_json)  # JUnit XML has them
        return record

    def _measured(self, cell: "Cell") -> "Record":
        from klom_bench.harness import measure
        from klom_bench.plugin.progress import announce_on

        config, node = self._request.config, self._request.node
        marker: dict[str, Any] = {}
        for mark in reversed(list(node.iter_markers("klom"))):  # the closest one wins
            marker |= mark.kwargs
        record = measure(cell, self._settings.store, self._timed, announce_on(config))
        limits = self._settings.limits(cell.method.name, cell.forget_set.name, marker)
        gates = record.judged(limits)
        if baseline := self._settings.baseline:
            gates += baseline.gates(record, self._settings.regressions)
        return replace(record, gates=gates)

    def _timed(self, unlearn: Callable[[], None]) -> float:
        took = 0.0

        def once() -> None:
            nonlocal took
            start = time.perf_counter()
            unlearn()
            took = time.perf_counter() - start

        self._benchmark.pedantic(once, rounds=1, iterations=1)
        return took

    def check(self, record: "Record") -> None:
        """Fail the test where a gate does not pass, or where there is no score."""
        from klom_bench.report.failure import failure

        if text := failure(record):
            pytest.fail(text, pytrace=False)


@pytest.fixture
def klom(request: pytest.FixtureRequest, benchmark: Any) -> KlomTest:
    """klom.measure(cell) -> record; klom.check(record)."""
    if SETTINGS not in request.config.stash or "klom_cell" not in request.fixturenames:
        pytest.fail("a test with `klom` asks for `klom_cell`, too: it is what can be measured")
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
        wrong = told_plainly(lambda: complaints(self._subject))
        self._node.stash[CONFORMS] = not wrong
        if wrong:
            pytest.fail(nonconformance(self._subject.method.name, wrong), pytrace=False)


@pytest.fixture
def klom_conformance(
    request: pytest.FixtureRequest, klom_task: str, klom_method: str
) -> Conformance:
    """klom_conformance.check(): whether the selected method does what it says."""
    from klom_bench.conformance.subject import Subject
    from klom_bench.record import unfit_for

    _start_clean(request.node)
    (method, variant), settings = _selected(request, klom_method), request.config.stash[SETTINGS]
    hyperparameters = told_plainly(lambda: settings.hyperparameters(method, variant))
    if reason := unfit_for(method, settings.task):
        request.node.stash[UNFIT] = {"unfit": reason}
        pytest.skip(reason)
    subject = told_plainly(lambda: Subject(method, hyperparameters, settings.task, settings.device))
    return Conformance(request.node, subject)


def built_in_methods() -> ModuleType:
    """The built-in methods as fixtures; one of the user's of the same name takes its place."""
    from klom_bench.methods import BUILT_IN

    def fixture(function: Callable[..., Any]) -> Any:
        @pytest.fixture(name=function.__name__, scope="session")
        def method() -> Callable[..., Any]:
            return function

        return method

    module = ModuleType("klom_methods")  # pytest looks for fixtures in modules and classes only
    vars(module).update({name: fixture(function) for name, function in BUILT_IN.items()})
    return module
