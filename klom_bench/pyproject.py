"""[tool.klom] of a project's pyproject.toml; imports nothing heavy."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from klom_bench.errors import KlomError, unknown

KEYS = ("gates", "tasks", "methods")


def klom_table(starts: Iterable[Path]) -> tuple[dict[str, Any], Path | None]:
    """[tool.klom] and its file: the nearest pyproject.toml that has one.

    Looked for from each of these folders upwards; no table and no file where there is none.
    """
    for folder in dict.fromkeys(f for start in starts for f in (start, *start.parents)):
        path = folder / "pyproject.toml"
        if not _is_file(path):
            continue
        try:
            tool = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {})
        except (ValueError, OSError) as error:
            raise KlomError(f"{path}: {error}") from error
        if "klom" in tool:
            return _checked(tool["klom"], path), path
    return {}, None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except PermissionError:  # in a folder above that is another user's
        return False


def _checked(table: Any, path: Path) -> dict[str, Any]:
    """The table; KlomError for a key that is not known, or a list that is none."""
    if not isinstance(table, dict):
        raise KlomError(f"{path}: [tool.klom] must be a table, got {table!r}")
    for key, value in table.items():
        if key not in KEYS:
            raise KlomError(f"{path} [tool.klom]: {unknown('table', key, KEYS)}")
        if key != "gates" and not (
            isinstance(value, list) and all(isinstance(text, str) for text in value)
        ):
            raise KlomError(
                f'{path} [tool.klom]: {key} must be a list, as ["module:name"]; got {value!r}'
            )
    return dict(table)
