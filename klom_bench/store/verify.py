"""Whether a store is what it seems: every file read, and oracles that really lack their set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from klom_bench.errors import KlomError
from klom_bench.forget_set import ForgetSet
from klom_bench.metrics.estimators import ESTIMATORS
from klom_bench.metrics.floor import floor
from klom_bench.metrics.klom import klom
from klom_bench.metrics.summary import plain
from klom_bench.progress import Announce, silent
from klom_bench.store import files
from klom_bench.store.forget_sets import stored
from klom_bench.store.layout import EnsembleId
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.published import PublishedEnsemble
from klom_bench.store.store import Store
from klom_bench.store.survey import Holding, survey
from klom_bench.tasks.task import Task

FEWEST = 10
"""With fewer models a side the sanity check has too little to go by."""
SURE = 3.0
"""Standard errors by which margins on the forget set must differ; one in 700 does by chance."""
ALIKE = 0.5
"""Correlation of mean margins over retain points; .9 and more is usual (measured), 0 misaligned."""


@dataclass(frozen=True)
class Sanity:
    """Originals against oracles.

    forget, retain: mean KLOM of doing nothing. shift: by how much more than oracles the originals
    are sure of the forget set, in nats, over what they are of retain points; sigmas: how many
    standard errors that is (models are the unit). alignment: correlation of mean margins over
    retain points.
    """

    forget: float
    retain: float
    floor: float
    shift: float
    sigmas: float
    alignment: float

    def as_json(self) -> dict[str, float | None]:
        """Plain numbers."""
        return {name: plain(value) for name, value in vars(self).items()}


@dataclass
class Checked:
    """What was found out about one ensemble: problems make `klom verify` fail, notes do not."""

    holding: Holding
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sanity: Sanity | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **self.holding.as_json(),
            "problems": self.problems,
            "notes": self.notes,
            "sanity": self.sanity.as_json() if self.sanity else None,
        }


def verify(
    root: Path, tasks: Mapping[str, Task], device: torch.device, announce: Announce = silent
) -> list[Checked]:
    """Read everything, and hold the oracles of seed 0 against the originals."""
    found = [Checked(holding) for holding in survey(root, tasks)]
    store = Store(root, "error")
    known = {name: stored(task, root) for name, task in tasks.items()}
    originals: dict[tuple[str, int], np.ndarray] = {}
    for checked in found:
        holding = checked.holding
        try:
            ensemble = _ensemble(holding, known)
            held = store.held(ensemble)
            with announce(f"reading {holding.folder}", len(held.members)) as tick:
                if isinstance(held, OwnEnsemble):
                    _read_own(held, checked, tick)
                else:
                    _read_published(held, checked, tick)
            if not holding.members or checked.problems:
                continue
            if isinstance(held, PublishedEnsemble):
                margins = held.margins_of(held.scored, device, announce)
            elif held.lacks(len(held.members)):
                checked.notes.append("members are missing in between: a run will train them")
                continue
            else:
                margins = held.margins(len(held.members))
            if holding.role == "original":
                originals[holding.task, holding.seed] = margins
            elif (others := originals.get((holding.task, holding.seed))) is None:
                checked.notes.append("there are no originals to hold them against")
            elif ensemble.forget_set is not None:
                checked.sanity = sanity(others, margins, ensemble.forget_set)
                _judge(checked, checked.sanity, min(len(others), len(margins)))
        except KlomError as error:
            checked.problems.append(str(error))
    return found


def _ensemble(holding: Holding, tasks: Mapping[str, Task]) -> EnsembleId:
    if holding.task not in tasks:
        raise KlomError(
            f"{holding.folder} belongs to {holding.task!r}, which is no task that is known here"
        )
    task = tasks[holding.task]
    if holding.forget_set is None:
        return EnsembleId(task, "original", holding.seed)
    if holding.forget_set not in task.forget_sets:
        raise KlomError(
            f"the indices of {holding.forget_set} are not known: put them into "
            f"forget_set_indices/{task.folder}/{holding.forget_set}.npy"
        )
    return EnsembleId(task, "oracle", holding.seed, task.forget_set(holding.forget_set))


def _read_own(held: OwnEnsemble, checked: Checked, tick: Any) -> None:
    """Every file of the manifest, by its checksum."""
    for member in held.manifest.members.values():
        for name, sha256 in member.files.items():
            try:
                files.read(held.folder / name, sha256)
            except KlomError as error:
                checked.problems.append(str(error))
        tick(1)


def _read_published(held: PublishedEnsemble, checked: Checked, tick: Any) -> None:
    """Every checkpoint; margins are read later, all at once."""
    if not held.members:
        checked.notes.append(f"cannot be used by pytest: {held.complaint(1)}")
    if gaps := held.missing_between:
        shown = ", ".join(map(str, gaps[:5])) + (", ..." if len(gaps) > 5 else "")
        checked.problems.append(f"missing in the middle: member {shown}")
    for member in sorted(held.pieces.members("checkpoint")):
        try:
            held.state(member)
        except KlomError as error:
            checked.problems.append(str(error))
        tick(1)


def sanity(originals: np.ndarray, oracles: np.ndarray, forget_set: ForgetSet) -> Sanity:
    """How originals and oracles differ, on the forget set and elsewhere.

    originals [N, points], oracles [M, points]: margins, train points first.
    """
    estimator = ESTIMATORS["default"]
    points = klom(oracles, originals, estimator)
    forget, retain = forget_set.indices, forget_set.retain
    a, b = (
        m[:, forget].mean(1, dtype=np.float64) - m[:, retain].mean(1, dtype=np.float64)
        for m in (originals, oracles)
    )
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)) if len(a) > 1 < len(b) else 0.0
    means = originals[:, retain].mean(0), oracles[:, retain].mean(0)
    return Sanity(
        forget=float(points[forget].mean()),
        retain=float(points[retain].mean()),
        floor=floor(estimator, len(oracles), len(originals)).mean,
        shift=float(a.mean() - b.mean()),
        sigmas=float((a.mean() - b.mean()) / error) if error > 0 else float("nan"),
        alignment=float(np.corrcoef(*means)[0, 1]),
    )


def _judge(checked: Checked, found: Sanity, members: int) -> None:
    """Say in words what the figures mean."""
    size = f"KLOM {found.forget:.2f}, floor {found.floor:.2f}"
    if members < FEWEST:
        checked.notes.append(
            f"{members} models a side are too few to tell whether the oracles lack the forget set"
        )
    elif not found.sigmas > SURE:
        checked.problems.append(
            f"these oracles look as if they had been trained on all data: on the forget set they "
            f"cannot be told from the originals ({size}; margins differ by {found.shift:.3g}, "
            f"{found.sigmas:.1f} standard errors)"
        )
    if found.alignment < ALIKE:
        checked.problems.append(
            f"on retain points their mean margins hardly go with those of the originals "
            f"(correlation {found.alignment:.2f}): points in another order, or another dataset"
        )
