"""Scores of margins that were computed elsewhere, in any framework; needs NumPy only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from klom_bench import __version__
from klom_bench.errors import KlomError
from klom_bench.files.margins import WHOLE, LooseMargins
from klom_bench.forget_set import ForgetSet, checked_forget_set
from klom_bench.metrics.copies import copies
from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.excess import BothWays, mean_excess
from klom_bench.metrics.far import far_members
from klom_bench.metrics.floor import floor, floor_limits
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.metrics.permutation import Retrained, retrained
from klom_bench.metrics.resampling import klom_errors, with_error
from klom_bench.metrics.summary import SPLITS, Summary, plain, summarise

FEW = 20
KNOWN = {50_000: "CIFAR-10", 44_200: "Living-17"}


@dataclass(frozen=True)
class Score:
    """Summaries a split. perfect: what a perfect unlearner stays below in 95 % of runs.

    means: that of KLOM and of its reverse, with errors. excess and test: with five models a side.
    """

    estimator: Estimator
    oracles: int
    members: int
    forget_set: ForgetSet | None
    points: dict[str, int]
    scores: dict[str, Summary]
    reverse: dict[str, Summary]
    floor: Summary
    perfect: dict[str, dict[str, float]]
    means: dict[str, tuple[Estimate, Estimate]]
    excess: dict[str, BothWays]
    test: Retrained | None
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """One plain JSON object; null where there is no number."""
        return {
            "schema": 1,
            "version": __version__,
            "members": {"oracle": self.oracles, "unlearned": self.members},
            "estimator": self.estimator.as_json(),
            "forget_set_sha256": self.forget_set.sha256 if self.forget_set else None,
            "points": self.points,
            "scores": {split: s.as_json() for split, s in self.scores.items()},
            "reverse": {split: s.as_json() for split, s in self.reverse.items()},
            "floor": {split: self.floor.as_json() for split in self.scores},
            "perfect": {
                split: {name: plain(value) for name, value in limits.items()}
                for split, limits in self.perfect.items()
            },
            "means": {
                split: {"mean": forward.as_json(), "reverse_mean": reverse.as_json()}
                for split, (forward, reverse) in self.means.items()
            },
            "excess": {split: both.as_json() for split, both in self.excess.items()},
            "retrained": self.test.as_json() if self.test else None,
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Compared:
    """Both sides by the splits that they share: margins [models, points of the split]."""

    oracle: dict[str, np.ndarray]
    unlearned: dict[str, np.ndarray]
    forget_set: ForgetSet | None
    notes: list[str]


def compared(
    oracle: LooseMargins,
    unlearned: LooseMargins,
    estimator: Estimator,
    forget_indices: np.ndarray | None = None,
    train_points: int | None = None,
) -> Compared:
    """What of two sides can be compared, as `score` is asked; KlomError where they do not fit."""
    if train_points is not None and train_points < 1:
        raise KlomError("--train-points must be at least 1")
    notes = [*oracle.notes, *unlearned.notes]
    forget_set = None
    if forget_indices is not None:
        if train_points is None and WHOLE in oracle.parts and WHOLE in unlearned.parts:
            notes.append(
                f"all {oracle.parts[WHOLE].shape[1]} points count as train points: --train-points "
                "tells where val begins"
            )
        points = train_points or _train_points(oracle, unlearned, forget_indices)
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
    if only := sorted({*a, *b} - {*common}):
        notes.append(f"{', '.join(only)} margins are on one side only and were not scored")
    if far := far_members(np.concatenate(list(oracle.parts.values()), 1)):
        text = (
            f"{oracle.source}: rows {', '.join(map(str, far[:5]))} are far from the other oracles "
            "(margins of another size, or often wrong where they are right): diverged?"
        )
        if estimator.span == "oracle":
            raise KlomError(f"{text} Bins are laid over the oracles: leave such models out")
        notes.append(text)
    for name in common:
        if a[name].shape[1] != b[name].shape[1]:
            raise KlomError(
                f"{name}: {oracle.source} has {a[name].shape[1]} points, {unlearned.source} "
                f"{b[name].shape[1]}: are they of the same dataset and forget set?"
            )
    a, b = ({name: side[name] for name in common} for side in (a, b))
    return Compared(a, b, forget_set, notes)


def refuse_copies(unlearned: LooseMargins, oracle: LooseMargins, same: list[int]) -> None:
    """KlomError where rows of unlearned margins are those of oracles."""
    if same:
        raise KlomError(
            f"{unlearned.source}: {len(same)} of {unlearned.members} models (the first is row "
            f"{same[0]}) have the margins of a model in {oracle.source}, to the last bit: they "
            "are what they are scored against, so that the score would mean nothing"
        )


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
    both = compared(oracle, unlearned, estimator, forget_indices, train_points)
    a, b, notes, common = both.oracle, both.unlearned, both.notes, [*both.oracle]
    n, m = oracle.members, unlearned.members
    scores, reverse = {}, {}
    for name in common:
        try:
            forward, backward = klom_and_reverse(a[name], b[name], estimator)
        except ValueError as error:
            raise KlomError(f"{name}: {error}") from error
        scores[name], reverse[name] = summarise(forward), summarise(backward)
        if bad := int(np.isnan(forward).sum()):
            notes.append(
                f"{name}: {bad} of {len(forward)} points have no score: the published code gives "
                f"nan there, and so does the estimator {estimator.name}; `default` does not"
            )
        if len({row.tobytes() for side in (a, b) for row in side[name]}) < n + m:
            notes.append(f"{name}: some models are there twice, margin for margin")
    counts = {name: a[name].shape[1] for name in common}
    whole_a, whole_b = (np.concatenate([side[name] for name in common], 1) for side in (a, b))
    refuse_copies(unlearned, oracle, copies(whole_a, whole_b))
    ends = np.cumsum([0, *counts.values()])
    rows = {name: np.arange(ends[i], ends[i + 1]) for i, name in enumerate(common)}
    errors, few = klom_errors(whole_a, whole_b, rows, estimator), min(n, m)
    excess = mean_excess(whole_a, whole_b, rows)
    if few < FEW:
        notes.append(f"{few} models are few: the floor is high, and tells little apart")
    return Score(
        estimator=estimator,
        oracles=n,
        members=m,
        forget_set=both.forget_set,
        points=counts,
        scores=scores,
        reverse=reverse,
        floor=floor(estimator, n, m),
        perfect={name: floor_limits(estimator, n, m, count) for name, count in counts.items()},
        means={
            name: (
                with_error(scores[name].mean, forward.mean, few),
                with_error(reverse[name].mean, backward.mean, few),
            )
            for name, (forward, backward) in errors.items()
        },
        excess=excess,
        test=retrained(whole_a, whole_b, rows) if excess else None,
        notes=notes,
    )


def _train_points(oracle: LooseMargins, unlearned: LooseMargins, forget_indices: np.ndarray) -> int:
    """How many train points there are, by what both sides hold; KlomError where that is open."""
    count, found = np.size(forget_indices), []
    for side in (oracle, unlearned):
        width = {name: array.shape[1] for name, array in side.parts.items()}
        if "retain" in width and "forget" in width:
            # EasyDUB's originals have forget points twice: their "retain" is all train points.
            found.append(width["retain"] + (width["forget"] if width["forget"] == count else 0))
        found += [width[name] for name in ("train", "retain", WHOLE) if name in width]
    if not found:
        raise KlomError("forget indices are given, but there are no margins of train points")
    points = int(max(found))
    for known, name in KNOWN.items():
        if points + count == known:
            raise KlomError(
                f"{points} columns and {count} forget indices make the {known} train points of "
                f"{name}: are these margins of retain points only? Then give --train-points {known}"
            )
    sides = [side.parts for side in (oracle, unlearned)]
    if all("retain" in p and "forget" not in p and "train" not in p for p in sides):
        raise KlomError(
            "there are retain margins only, so that it is open whether they leave the forget set "
            "out: give --train-points"
        )
    return points


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
        if train_points and "train" in parts and parts["train"].shape[1] != train_points:
            raise KlomError(
                f"{side.source} has margins of {parts['train'].shape[1]} train points, not of "
                f"{train_points}"
            )
        return parts
    n, size = forget_set.train_points, len(forget_set)
    if WHOLE in parts:
        parts["train"] = parts.pop(WHOLE)
    retain = parts.get("retain")
    if "train" not in parts and retain is not None and retain.shape[1] == n:
        parts["train"] = parts.pop("retain")  # EasyDUB's name for all train points of originals
        parts.pop("forget", None)
    for name, width in (("retain", n - size), ("forget", size)):
        if name in parts and parts[name].shape[1] != width:
            raise KlomError(
                f"{side.source} has margins of {parts[name].shape[1]} {name} points, where {width} "
                f"are expected: {n} train points, {size} of them forgotten"
            )
    if "train" in parts:
        train = parts.pop("train")
        if train.shape[1] == n:
            parts["retain"] = train[:, forget_set.retain]
            parts["forget"] = train[:, forget_set.indices]
        elif train.shape[1] == n - size:
            parts["retain"] = train  # published for some oracles: retain points only
        else:
            raise KlomError(
                f"{side.source} has margins of {train.shape[1]} train points, where {n} are "
                f"expected, or {n - size} without the forget set"
            )
    elif "forget" in parts:  # in the order of the file of indices
        parts["forget"] = parts["forget"][:, np.argsort(forget_set.given)]
    return parts
