"""What is looked at before models from elsewhere become members of the store."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from klom_bench.errors import KlomError
from klom_bench.files.names import gaps
from klom_bench.metrics.copies import repeated
from klom_bench.metrics.sanity import Sanity
from klom_bench.store.against import held_against
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.held import Held
from klom_bench.store.manifest import how_to_remove
from klom_bench.store.own import OwnEnsemble
from klom_bench.store.store import Store
from klom_bench.store.survey import IMPORTED, survey
from klom_bench.store.training import Evaluated
from klom_bench.tasks.ensemble_id import EnsembleId

FEWEST = 2


def refuse_others(held: Held, root: Path) -> None:
    """KlomError where a folder holds members that were not imported, or is somebody else's."""
    label, folder = held.ensemble.label, root / held.ensemble.folder
    if not isinstance(held, OwnEnsemble):
        raise KlomError(
            f"{held.folder} holds published {label}, which are read as they lie: there is nothing "
            "to import, or name another --store"
        )
    if held.manifest.identity and not held.manifest.imported:
        raise KlomError(
            f"the {label} in {folder} were trained here, and imported models are not mixed with "
            f"them: {how_to_remove(held.ensemble, folder)}, or name another --store or --seed"
        )


def refuse_gaps(held: Held, files: Mapping[int, Path]) -> None:
    """KlomError where members would be too few, or not be numbered without gaps."""
    every = sorted({*held.members, *files})
    if missing := gaps(every):
        raise KlomError(
            f"{missing} of the {held.ensemble.label} would be missing: {len(held.members)} are "
            f"there, and {files[min(files)]} is member {min(files)}"
        )
    if len(every) < FEWEST:
        raise KlomError(
            f"{len(every)} model is no ensemble: scores compare distributions over models, of "
            "5 at least, better 50 or 100"
        )


def refuse_odd(
    held: OwnEnsemble, made: Sequence[Evaluated], files: Mapping[int, Path]
) -> list[str]:
    """KlomError where models diverged or are there twice; what else is odd, in words."""
    ensemble, known = held.ensemble, held.manifest.members
    numbers, rows = [*held.members, *(e.member for e in made)], _rows(held, made)
    if twice := repeated(rows):
        first, second = (numbers[row] for row in twice)
        said = files.get(first, f"member {first}, which is there already,")
        alike = sum(row.tobytes() == rows[twice[0]].tobytes() for row in rows)
        every = "all of them are" if alike == len(rows) else f"{said} and {files[second]} are"
        raise KlomError(
            f"{every} one and the same model: members must have been trained apart, each with a "
            "seed of its own"
        )
    weak = refuse_diverged(ensemble, made, known, "Leave it out; nothing was imported")
    if len(weak) == len(made):
        return [
            "all of them are right on no more points than chance: are these the data that they "
            "were trained on, prepared as they were then, and classes in the same order?"
        ]
    more = f" (and {len(weak) - 1} more)" if weak[1:] else ""
    return [text + more for text in weak[:1]]


def _rows(held: OwnEnsemble, made: Sequence[Evaluated]) -> np.ndarray:
    """Margins [members, points] of those that are there, then of new ones."""
    new = [np.concatenate([e.train_margins, e.val_margins]) for e in made]
    return np.stack([*(held.margins_of(held.members) if held.members else ()), *new])


def against_originals(
    store: Store,
    held: OwnEnsemble,
    made: Sequence[Evaluated],
    files: Mapping[int, Path],
    device: torch.device,
) -> tuple[Sanity | None, list[str]]:
    """What oracles are beside the originals that are there; KlomError where they are none."""
    ensemble = held.ensemble
    originals = store.held(EnsembleId(ensemble.task, "original", ensemble.seed))
    count = len(originals.members)
    if not count or originals.lacks(count):
        return None, [
            "there are no originals to hold these against: whether they lack their set is seen "
            "when they are measured, or by `klom verify`"
        ]
    known = originals.margins(count, device)
    found, before = held_against(ensemble, known, _rows(held, made)), len(held.members)
    if found.problems:
        raise KlomError(
            f"these are no {ensemble.label}: {'; '.join(found.problems)}. Nothing was imported"
        )
    if odd := [files[made[row - before].member] for row in found.strays if row >= before]:
        more = f" and {len(odd) - 1} more" if odd[1:] else ""
        raise KlomError(
            f"{odd[0]}{more}: it looks like an original on the forget set, far from the other "
            f"{ensemble.label}, so that it has seen that. Nothing was imported"
        )
    return found.sanity, found.notes


def against_oracles_there(
    store: Store, held: OwnEnsemble, made: Sequence[Evaluated], device: torch.device
) -> list[str]:
    """What is wrong with oracles that were imported before these originals, in words."""
    task, seed, notes = held.ensemble.task, held.ensemble.seed, list[str]()
    rows = _rows(held, made)
    for holding in survey(store.root, {}):
        name, mine = holding.forget_set, (holding.task, holding.made, holding.seed)
        if name is None or mine != (task.name, IMPORTED, seed) or name not in task.forget_sets:
            continue
        ensemble = EnsembleId(task, "oracle", seed, task.forget_set(name))
        oracles = store.held(ensemble)
        margins = oracles.margins(len(oracles.members), device)
        found = held_against(ensemble, rows, margins)
        said = [*found.problems, *found.notes]
        notes += [f"{ensemble.label}, which are there: {text}" for text in said]
    return notes
