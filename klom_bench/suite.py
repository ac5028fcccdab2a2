"""The tests themselves: `from klom_bench.suite import test_klom, test_conformance` in your file."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klom_bench.cell.cell import Cell
    from klom_bench.plugin.fixtures import Conformance
    from klom_bench.plugin.klom_test import KlomTest


def test_klom(klom_cell: "Cell", klom: "KlomTest") -> None:
    """Unlearn one forget set from N models, score them with KLOM, hold the scores to the gates."""
    record = klom.measure(klom_cell)
    klom.check(record)


def test_conformance(klom_conformance: "Conformance") -> None:
    """See on a few points, in seconds, whether the method does what its docstring says."""
    klom_conformance.check()
