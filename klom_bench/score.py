"""Scores of margins that were computed elsewhere, in any framework; needs NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from klom_bench import __version__
from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet, checked_forget_set
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.floor import floor, floor_limits
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.metrics.summary import SPLITS, Summary, summarise
from klom_bench.store.margin_files import WHOLE, LooseMargins


@dataclass(frozen=True)
class Score:
    """Summaries a split. perfect: what a perfect unlearner stays below in 95 % of runs."""

    estimator: Estimator
    oracles: int
    members: int
    forget_set: ForgetSet | None
    points: dict[str, int]
    scores: dict[str, Summary]
    reverse: dict[str, Summary]
    floor: Summary
    perfect: dict[str, dict[str, float]]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """One plain JSON object; null where there is no number."""
        est = self.estimator
        return {
            "schema": 1,
            "version": __version__,
            "members": {"oracle": self.oracles, "unlearned": self.members},
            "estimator": {
                "name": est.name,
                "direction": est.direction,
                "bins": est.bins,
                "eps": est.eps,
                "clip": est.clip,
            },
            "forget_set_sha256": self.forget_set.sha256 if self.forget_set else None,
            "points": self.points,
            "scores": {split: s.as_json() for split, s in self.scores.items()},
            "reverse": {split: s.as_json() for split, s in self.reverse.items()},
            "floor": {split: self.floor.as_json() for split in self.scores},
            "perfect": self.perfect,
            "notes": self.notes,
        }


def score(
    oracle: LooseMargins,
    unlearned: LooseMargins,
    estimator: Estimator,
    forget_indices: np.ndarray | None = None,
    train_points: int | None = None,
) -> Score:
    """KLOM of unlearned margins against those of oracles, summarised a split.

    forget_indices: into the train points. train_points: how many columns are train points, where
    one array holds all. KlomError where the two do not fit together.
    """
    points = train_points or _train_points(oracle, unlearned, forget_indices)
    forget_set = None
    if forget_indices is not None:
        if points is None:
            raise KlomError("forget indices are given, but there are no margins of train points")
        try:
            forget_set = checked_forget_set("forget indices", forget_indices, points)
        except ValueError as error:
            raise KlomError(str(error)) from error
    a, b = (_splits(side, forget_set, train_points) for side in (oracle, unlearned))
    common = [name for name in (*SPLITS, "train", WHOLE) if name in a and name in b]
    if not common:
        raise KlomError(
            f"{oracle.source} has {', '.join(a)} margins and {unlearned.source} {', '.join(b)}: "
            "nothing to compare. --forget-indices tells which train points are the forget set"
        )
    notes = [*oracle.notes, *unlearned.notes]
    if only := sorted({*a, *b} - {*common}):
        notes.append(f"{', '.join(only)} margins are on one side only and were not scored")
    scores, reverse = {}, {}
    for name in common:
        if a[name].shape[1] != b[name].shape[1]:
            raise KlomError(
                f"{name}: {oracle.source} has {a[name].shape[1]} points, {unlearned.source} "
                f"{b[name].shape[1]}: are they of the same dataset and forget set?"
            )
        try:
            forward, backward = klom_and_reverse(a[name], b[name], estimator)
        except ValueError as error:
            raise KlomError(f"{name}: {error}") from error
        scores[name], reverse[name] = summarise(forward), summarise(backward)
    counts = {name: a[name].shape[1] for name in common}
    n, m = oracle.members, unlearned.members
    return Score(
        estimator=estimator,
        oracles=n,
        members=m,
        forget_set=forget_set,
        points=counts,
        scores=scores,
        reverse=reverse,
        floor=floor(estimator, n, m),
        perfect={name: floor_limits(estimator, n, m, count) for name, count in counts.items()},
        notes=notes,
    )


def _train_points(
    oracle: LooseMargins, unlearned: LooseMargins, forget_indices: np.ndarray | None
) -> int | None:
    """How many train points there are, by what both sides hold."""
    found = []
    for side in (oracle, unlearned):
        width = {name: array.shape[1] for name, array in side.parts.items()}
        found += [width[name] for name in ("train", "retain", WHOLE) if name in width]
        if "retain" in width and forget_indices is not None:
            found.append(width["retain"] + len(forget_indices) * ("forget" in width))
    return max(found, default=None)


def _splits(
    side: LooseMargins, forget_set: ForgetSet | None, train_points: int | None
) -> dict[str, np.ndarray]:
    """Margins a split: forget, retain and val; train or all where F is not known."""
    parts = dict(side.parts)
    if WHOLE in parts and train_points:
        whole = parts.pop(WHOLE)
        if whole.shape[1] < train_points:
            raise KlomError(
                f"{side.source} has {whole.shape[1]} points, fewer than {train_points} train points"
            )
        parts["train"] = whole[:, :train_points]
        if whole.shape[1] > train_points:
            parts["val"] = whole[:, train_points:]
    if forget_set is None:
        return parts
    if WHOLE in parts:
        parts["train"] = parts.pop(WHOLE)
    retain = parts.get("retain")
    if "train" not in parts and retain is not None and retain.shape[1] == forget_set.train_points:
        parts["train"] = parts.pop("retain")  # EasyDUB's name for all train points of originals
        parts.pop("forget", None)
    if "train" in parts:
        train = parts.pop("train")
        if train.shape[1] == forget_set.train_points:
            parts["retain"] = train[:, forget_set.retain]
            parts["forget"] = train[:, forget_set.indices]
        elif train.shape[1] == len(forget_set.retain):
            parts["retain"] = train  # published for some oracles: retain points only
        else:
            raise KlomError(
                f"{side.source} has margins of {train.shape[1]} train points, where "
                f"{forget_set.train_points} are expected, or {len(forget_set.retain)} without the "
                "forget set"
            )
    return parts
