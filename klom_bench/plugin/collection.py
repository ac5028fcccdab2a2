"""From options to tests: one a forget set and method, and what is known only once they are there.

Imports nothing heavy: every pytest run collects.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pytest

from klom_bench.plugin.keys import DESELECTED, RUN

if TYPE_CHECKING:
    from klom_bench.plugin.run import Run

FIXTURES = {"klom_cell", "klom_conformance"}


def is_klom(item: pytest.Item) -> bool:
    """Whether it is a test of ours."""
    return bool(FIXTURES & set(getattr(item, "fixturenames", ())))


def is_margins(item: pytest.Item) -> bool:
    """Whether it scores margins that it has: it asks for our `klom`, and for no cell."""
    if "klom" not in getattr(item, "fixturenames", ()) or is_klom(item):
        return False
    found = item.session._fixturemanager.getfixturedefs("klom", item) or ()
    return any(d.func.__module__ == "klom_bench.plugin.fixtures" for d in found[-1:])


def parametrize(metafunc: pytest.Metafunc) -> None:
    """One test a forget set and method, one conformance test a method."""
    if not FIXTURES & set(metafunc.fixturenames):
        return
    run = metafunc.config.stash.get(RUN, None)
    # Plain strings, so that pytest-benchmark can save and group by them.
    parameters: dict[str, list[str]] = (
        {"klom_task": ["no"], "klom_forget_set": ["klom"], "klom_method": ["method"]}
        if run is None
        else {
            "klom_task": [run.bench.task.name],
            "klom_forget_set": list(run.bench.forget_sets),
            "klom_method": list(run.variants),
        }
    )
    for name, values in parameters.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, values)


def is_of(test: str, forget_sets: Iterable[str]) -> bool:
    """Whether a test is of one of these forget sets; conformance tests are of none."""
    parameters = test.partition("::")[2].partition("[")[2]  # names before them have no bracket
    escaped = (name.encode("unicode_escape").decode() for name in forget_sets)  # as pytest does
    return any(f"-{name}-" in parameters for name in escaped)


def problem_of(session: pytest.Session, run: "Run", items: Sequence[pytest.Item]) -> str | None:
    """What is known only now: no KLOM test, a method that is no fixture, limits of nothing."""
    from klom_bench.errors import KlomError
    from klom_bench.plugin.checks import check

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
        check(session, run, items)
    except KlomError as error:
        return str(error)
    return None
