"""Fixtures: the cell of a test, the object that measures and checks it, the built-in methods."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from klom_bench.plugin.keys import RECORD, SETTINGS

if TYPE_CHECKING:
    from klom_bench.record import Cell, Record


@contextmanager
def told_plainly() -> Iterator[None]:
    """A KlomError ends the test with its message, without a traceback."""
    from klom_bench.errors import KlomError

    message = None
    try:
        yield
    except KlomError as error:
        message = str(error)
    if message is not None:  # outside, so that no "during handling of" is printed
        pytest.fail(message, pytrace=False)


@pytest.fixture
def klom_cell(
    request: pytest.FixtureRequest, klom_task: str, klom_forget_set: str, klom_method: str
) -> "Cell":
    """The (task, method, forget set) of this test; the method is the fixture of its name."""
    from klom_bench.methods.method import method_of

    function = request.getfixturevalue(klom_method)
    with told_plainly():
        return request.config.stash[SETTINGS].cell(
            method_of(klom_method, function), klom_forget_set
        )


class KlomTest:
    """Measures a cell, records it, and holds it against the gates."""

    def __init__(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        self._request, self._benchmark = request, benchmark
        self._settings = request.config.stash[SETTINGS]

    def measure(self, cell: "Cell") -> "Record":
        """Unlearn and score; pytest-benchmark times the unlearning alone."""
        from dataclasses import replace

        from klom_bench.harness import measure
        from klom_bench.plugin.progress import announce_on

        def timed(unlearn: Callable[[], None]) -> float:
            took = []

            def once() -> None:
                start = time.perf_counter()
                unlearn()
                took.append(time.perf_counter() - start)

            self._benchmark.pedantic(once, rounds=1, iterations=1)
            return took[0]

        node = self._request.node
        marker: dict[str, Any] = {}
        for mark in reversed(list(node.iter_markers("klom"))):  # the closest one wins
            marker |= mark.kwargs
        with told_plainly():
            announce = announce_on(self._request.config)
            record = measure(cell, self._settings.store, timed, announce)
            limits = self._settings.limits(cell.method.name, cell.forget_set.name, marker)
            record = replace(record, gates=record.judged(limits))
        node.stash[RECORD] = self._benchmark.extra_info["klom"] = record.as_json()
        return record

    def check(self, record: "Record") -> None:
        """Fail the test where a gate does not pass, or where there is no score."""
        from klom_bench.report.failure import failure

        if text := failure(record):
            pytest.fail(text, pytrace=False)


@pytest.fixture
def klom(request: pytest.FixtureRequest, benchmark: Any) -> KlomTest:
    """klom.measure(cell) -> record; klom.check(record)."""
    return KlomTest(request, benchmark)


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
