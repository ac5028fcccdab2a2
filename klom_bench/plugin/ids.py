"""Test ids: all that the controller of pytest-xdist knows of tests that have not run."""

from collections.abc import Iterable


def is_of(test: str, forget_sets: Iterable[str]) -> bool:
    """Whether a test is of one of these forget sets; conformance tests are of none."""
    parameters = test.partition("::")[2].partition("[")[2]  # names before them have no bracket
    escaped = (name.encode("unicode_escape").decode() for name in forget_sets)  # as pytest does
    return any(f"-{name}-" in parameters for name in escaped)
