"""What the texts of options mean; UsageError where they mean nothing."""

import ast
from collections.abc import Iterable
from typing import Any

import pytest

from klom_bench.cell.variants import Param
from klom_bench.errors import KlomError
from klom_bench.literals import literal


def epochs_in(text: str) -> tuple[int, ...]:
    """Sorted numbers of `1,3,5`."""
    parts = [part.strip() for part in str(text).split(",") if part.strip()]
    if any(not part.isdecimal() or int(part) < 1 for part in parts):
        raise pytest.UsageError(f"--klom-epochs must be numbers from 1 on, as 1,3,5; got {text!r}")
    return tuple(sorted({int(part) for part in parts}))


def param_in(text: str) -> Param:
    """`[METHOD.]NAME=VALUE` with one value or several."""
    path, equals, value = text.partition("=")
    method, _, name = path.rpartition(".")
    if not equals or not name.isidentifier() or not value:
        raise pytest.UsageError(f"--klom-param must be [METHOD.]NAME=VALUE, got {text!r}")
    values = values_in(value)
    if "" in [v for v in values if isinstance(v, str)]:
        raise pytest.UsageError(f"--klom-param: a value is empty in {text!r}")
    return (method or None), name, values


def values_in(text: str) -> tuple[Any, ...]:
    """One value, or several with commas between them; (3, 5) is one."""
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return _different(literal(part) for part in text.split(","))
    if not (isinstance(body, ast.Tuple) and body.elts):
        return (literal(text),)
    if body.elts[0].col_offset > body.col_offset:  # in parentheses
        return (literal(text),)
    parts = (ast.get_source_segment(text.strip(), part) or "" for part in body.elts)
    return _different(literal(part) for part in parts)


def _different(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple({repr(value): value for value in values}.values())


def limit_in(text: str) -> tuple[str, Any]:
    """`METRIC=LIMIT`; whether it is a limit is checked with those of files."""
    metric, equals, value = text.partition("=")
    if not equals:
        raise pytest.UsageError(f"--klom-max must be METRIC=LIMIT, as forget_p95=2.0, got {text!r}")
    return metric.strip(), literal(value)


def confidence_in(text: str | None) -> float | None:
    """A number from .5 to below 1, by the check of files; None where none is given."""
    if text is None:
        return None
    from klom_bench.cell.gates import checked_confidence  # imports NumPy

    try:
        return checked_confidence(literal(text), "--klom-confidence")
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error


def family_in(text: str | None) -> str | None:
    """`none` or `holm`, by the check of files; None where none is given."""
    if text is None:
        return None
    from klom_bench.cell.gates import checked_family  # imports NumPy

    try:
        return checked_family(text, "--klom-family")
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error


def minutes_in(text: str | None, auto: bool) -> float | None:
    """A number above 0, where there are several looks; None where none is given."""
    if text is None:
        return None
    minutes = literal(text)
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not minutes > 0:
        raise pytest.UsageError(f"--klom-budget must be a number of minutes, got {text!r}")
    if not auto:
        raise pytest.UsageError(
            "--klom-budget ends looks at more and more models, and there is one look only: add "
            "--klom-models=auto"
        )
    return float(minutes)


def share_in(text: str | None) -> float | None:
    """A share of a GPU; None where none is given."""
    if text is None:
        return None
    share = literal(text)
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise pytest.UsageError(f"--klom-gpu-share must be a number up to 1, got {text!r}")
    return float(share)


def regression_in(text: str) -> tuple[str, str]:
    """`METRIC=RISE`."""
    metric, equals, rise = text.partition("=")
    if not equals:
        raise pytest.UsageError(
            f"--klom-max-regression must be METRIC=RISE, as forget_p95=10% or forget_p95=0.2, "
            f"got {text!r}"
        )
    return metric.strip(), rise.strip()
