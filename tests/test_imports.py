import gc
import sys

import pytest

from klom_bench.imports import kept


@pytest.fixture
def unknown(tmp_path, monkeypatch):
    """A module that nothing has imported."""
    (tmp_path / "large_and_unknown.py").write_text("things = [[] for _ in range(1000)]")
    monkeypatch.syspath_prepend(tmp_path)
    yield "large_and_unknown"
    sys.modules.pop("large_and_unknown", None)


def test_what_is_imported_is_left_alone_by_the_collector(unknown):
    frozen = gc.get_freeze_count()
    with kept():
        assert not gc.isenabled()
        __import__(unknown)
    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + 1000


def test_what_was_imported_before_freezes_nothing_more(unknown):
    __import__(unknown)
    frozen = gc.get_freeze_count()
    with kept():
        __import__(unknown)
    assert gc.get_freeze_count() <= frozen


def test_a_collector_that_rests_goes_on_resting(unknown):
    gc.disable()
    try:
        with pytest.raises(ZeroDivisionError), kept():
            raise ZeroDivisionError
        assert not gc.isenabled()
    finally:
        gc.enable()
