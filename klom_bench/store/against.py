"""Oracles held against the originals that they should differ from, by their margins."""

from dataclasses import replace

import numpy as np

from klom_bench.metrics.copies import repeated
from klom_bench.metrics.sanity import Sanity, judged, sanity
from klom_bench.tasks.ensemble_id import EnsembleId

COPIES = "some of them are originals, margin for margin"


def held_against(
    ensemble: EnsembleId, originals: np.ndarray, oracles: np.ndarray
) -> tuple[Sanity, list[str], list[str]]:
    """Whether oracles are what they should be: figures, problems and notes in words.

    ensemble: that of the oracles. Margins [N, points] and [M, points].
    """
    assert ensemble.forget_set is not None
    found = sanity(originals, oracles, ensemble.forget_set)
    if ensemble.task.is_class(ensemble.forget_set):
        # Val points of a class that was never seen go with nothing.
        found = replace(found, alignment=float("nan"))
    problems, notes = judged(found, len(oracles), len(originals))
    if ensemble.task.outputs.right is None:  # residuals do not say whether a model knows a point
        problems, notes = [], problems + notes
    if not repeated(oracles) and repeated(np.concatenate([originals, oracles])):
        problems.append(COPIES)
    return found, problems, notes
