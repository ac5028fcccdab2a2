"""Where the plugin keeps what belongs to a run and to a test."""

from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from klom_bench.interrupt import Ended
    from klom_bench.plugin.settings import Settings

SETTINGS: "pytest.StashKey[Settings]" = pytest.StashKey()
ENDED: "pytest.StashKey[Ended]" = pytest.StashKey()
DESELECTED: pytest.StashKey[int] = pytest.StashKey()
PROBLEM: pytest.StashKey[str] = pytest.StashKey()
CONFORMS: pytest.StashKey[bool] = pytest.StashKey()
RECORD: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
UNFIT: pytest.StashKey[dict[str, Any]] = pytest.StashKey()
BENCHMARK_ONLY: pytest.StashKey[bool] = pytest.StashKey()
TERMINAL: pytest.StashKey[IO[str] | None] = pytest.StashKey()
