"""Oracles held against the originals that they should differ from, by their margins."""

from dataclasses import dataclass, replace

import numpy as np

from klom_bench.metrics.copies import repeated
from klom_bench.metrics.sanity import SURE, Sanity, judged, sanity, strays
from klom_bench.tasks.ensemble_id import EnsembleId

COPIES = "some of them are originals, margin for margin"


@dataclass(frozen=True)
class Against:
    """What was seen: figures, problems and notes in words, rows of oracles that look like originals
    (which a note says, too)."""

    sanity: Sanity
    problems: list[str]
    notes: list[str]
    strays: list[int]


def held_against(ensemble: EnsembleId, originals: np.ndarray, oracles: np.ndarray) -> Against:
    """Whether oracles are what they should be.

    ensemble: that of the oracles. Margins [N, points] and [M, points].
    """
    assert ensemble.forget_set is not None
    found = sanity(originals, oracles, ensemble.forget_set)
    if ensemble.task.is_class(ensemble.forget_set):
        # Val points of a class that was never seen go with nothing.
        found = replace(found, alignment=float("nan"))
    problems, notes = judged(found, len(oracles), len(originals))
    says = ensemble.task.outputs.right is not None  # residuals do not: whether a point is known
    if not says:
        problems, notes = [], problems + notes
    if not repeated(oracles) and repeated(np.concatenate([originals, oracles])):
        problems.append(COPIES)
    differ = says and found.sigmas > SURE
    odd = strays(originals, oracles, ensemble.forget_set) if differ else []
    if odd:
        more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
        notes.append(
            f"{', '.join(map(str, odd[:3]))}{more} of them, counted from 0, look like originals on "
            "the forget set, far from the others: have these seen it?"
        )
    return Against(found, problems, notes, odd)
