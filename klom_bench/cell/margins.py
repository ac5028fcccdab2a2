"""From margins that were computed elsewhere to a record: no model, no task, no torch."""

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from klom_bench.cell.gates import LEFTOVER, MARGINS, METRICS
from klom_bench.cell.limits import Limits
from klom_bench.cell.record import Record
from klom_bench.cell.record_json import asked
from klom_bench.cell.scoring import References, scored
from klom_bench.errors import KlomError, warn
from klom_bench.files.arrays import read_array
from klom_bench.files.margins import PARTS, WHOLE, LooseMargins, checked_margins, read_margins
from klom_bench.forget_set import ForgetSet
from klom_bench.metrics.copies import copies
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.sanity import SAME, apart
from klom_bench.score import compared, refuse_copies

NAME = r"[^\W\d][\w.=,+-]*"
Given = str | PathLike[str] | np.ndarray | Mapping[str, Any]
"""A file, a folder, an array [models, points], or arrays by part: train, retain, forget, val."""
ENOUGH = 50
"""Points from which an order can be told."""
AGREE, APART = 0.4, 0.2
"""Correlations over points: every oracle with the others has more than the first, and no model with
oracles of which these are other points more than the second."""


def margins_given(given: Given, who: str) -> LooseMargins:
    """Margins as `klom score` takes them, or arrays; KlomError for what are none."""
    if isinstance(given, str | PathLike):
        return read_margins(Path(given))
    parts = {**given} if isinstance(given, Mapping) else {WHOLE: given}
    if strange := [name for name in parts if name not in (*PARTS, WHOLE)]:
        raise KlomError(f"{who}: unknown part {strange[0]!r}: {', '.join(PARTS)} are known")
    if not parts:
        raise KlomError(f"{who}: there are no margins")
    arrays = {name: np.asarray(array) for name, array in parts.items()}
    for array in arrays.values():
        if array.dtype.kind not in "fiu":
            raise KlomError(f"{who}: margins are real numbers, not {array.dtype}")
    return checked_margins(LooseMargins(Path(who), arrays))


def record_of(
    *,
    oracle: LooseMargins,
    unlearned: LooseMargins,
    originals: LooseMargins | None,
    forget: Any,
    train_points: int | None,
    name: str,
    estimator: Estimator,
    limits: Limits,
) -> Record:
    """Score margins of unlearned models, and hold the scores against limits.

    The record's task and method are `margins`; its name stands where a forget set's does.
    originals: of the models that were unlearned, row by row. forget: indices into the train points,
    or a file of them. KlomError for what does not fit together, is not finite or is not there.
    """
    if not re.fullmatch(NAME, name):
        raise KlomError(f"the name {name!r} must be letters, digits and _ . = , + -")
    if isinstance(forget, str | PathLike):
        forget = read_array(Path(forget))
    sides = [oracle, unlearned, *([originals] if originals else [])]
    for side in sides:
        if side.holes:
            raise KlomError(f"{side.source}: missing in between: {side.holes}")
        if side.members < 2:
            raise KlomError(f"{side.source} has one model: KLOM compares several, 100 are usual")
        _refuse_non_finite(side)
    if originals and originals.members != unlearned.members:
        raise KlomError(
            f"{originals.source} has {originals.members} models and {unlearned.source} "
            f"{unlearned.members}: of each unlearned model the original that it was is wanted"
        )
    limits.refuse_too_few(min(oracle.members, unlearned.members))
    both = compared(oracle, unlearned, estimator, np.asarray(forget), train_points)
    forget_set = both.forget_set
    assert forget_set is not None  # there are indices
    a, splits = _in_order(both.oracle, forget_set, unlearned)
    b, _ = _in_order(both.unlearned, forget_set, unlearned)
    original = None
    if originals:
        third = compared(oracle, originals, estimator, np.asarray(forget), train_points)
        original, _ = _in_order(third.unlearned, forget_set, originals)
        if original.shape[1] != a.shape[1]:
            raise KlomError(f"{originals.source} has no val margins, and the others have")
        _refuse_other_order(a, original, forget_set.retain, originals)
        refuse_copies(originals, oracle, copies(a, original))
    _refuse_other_order(a, b, forget_set.retain, unlearned)
    for metric in (*limits.limits, *limits.regressions):
        if not len(splits[METRICS[metric][1]]):
            raise KlomError(f"{metric} is a limit of {name}, and there are no val margins")
        if METRICS[metric][2] == LEFTOVER and not originals:
            raise KlomError(
                f"{metric} is a limit of {name}, and needs the originals: give `originals=` (to "
                "`klom score` --originals), margins of the models that were unlearned, row by row"
            )
    refuse_copies(unlearned, oracle, copies(a, b))
    for note in both.notes:
        warn(note)
    named = ForgetSet(name, forget_set.indices, forget_set.train_points, forget_set.given)
    of = asked(MARGINS, named, MARGINS, "", len(b), len(a), estimator, 0)
    if limits.baseline:
        limits.baseline.refuse_other_settings([of], limits.regressions)
    return scored(of, References(a, original, splits, estimator, len(b)), b, limits)


def _in_order(
    parts: Mapping[str, np.ndarray], forget_set: ForgetSet, side: LooseMargins
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Margins [models, points] in the order of points, train first, and the points of each split.

    KlomError where forget or retain points are lacking.
    """
    for name in ("forget", "retain"):
        if name not in parts:
            raise KlomError(
                f"{side.source}: there are no margins of {name} points on both sides, which a "
                "record needs"
            )
    n, members = forget_set.train_points, len(parts["forget"])
    val = parts.get("val", np.empty((members, 0), parts["forget"].dtype))
    whole = np.empty((members, n + val.shape[1]), parts["forget"].dtype)
    whole[:, forget_set.indices] = parts["forget"]
    whole[:, forget_set.retain] = parts["retain"]
    whole[:, n:] = val
    return whole, forget_set.splits(whole.shape[1])


def _refuse_non_finite(side: LooseMargins) -> None:
    for name, array in side.parts.items():
        bad = np.argwhere(~np.isfinite(array))
        if len(bad):
            model, point = bad[0]
            raise KlomError(
                f"{side.source}: the margin of model {model} at {name} point {point} is "
                f"{array[model, point]}, and {len(np.unique(bad[:, 0]))} of {side.members} models "
                "have such margins: they diverged"
            )


def _refuse_other_order(
    oracle: np.ndarray, other: np.ndarray, retain: np.ndarray, side: LooseMargins
) -> None:
    """KlomError where margins are those of the oracles' retain points, but of other points each.

    Seen where every single oracle knows which points are easy for the other oracles, and not one
    of these models does, though as many points are easy for them.
    """
    if len(retain) < ENOUGH:
        return
    a, b = (x[:, retain].astype(np.float64) for x in (oracle, other))
    usual = a.mean(0)
    others = (len(a) * usual - a) / (len(a) - 1)  # without each oracle in turn
    if _like(a, others).min() < AGREE or _like(b, usual).max() > APART:
        return
    if apart(b.mean(0), usual) < SAME:
        raise KlomError(
            f"{side.source}: on retain points these models have margins like the oracles', but at "
            "other points: are the points in another order?"
        )


def _like(models: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Correlations over the points, one a model; 0 where nothing varies."""
    x, y = (z - z.mean(-1, keepdims=True) for z in (models, usual))
    scale = np.sqrt((x**2).sum(-1) * (y**2).sum(-1))
    found: np.ndarray = np.where(scale > 0, (x * y).sum(-1) / np.where(scale > 0, scale, 1), 0)
    return found
