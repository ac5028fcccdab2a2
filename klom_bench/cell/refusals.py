"""What would make scores meaningless, and is refused."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.cell.loading import Models
from klom_bench.errors import KlomError, warn
from klom_bench.metrics.copies import copies
from klom_bench.store.against import held_against
from klom_bench.store.manifest import how_to_remove


def look_at_brought(cell: Cell, models: Models) -> None:
    """KlomError or a warning where ensembles from elsewhere are not what they should be."""
    if cell.task.outputs.right is None:
        return  # residuals do not say whether a model knows a point
    oracle, original = models.margins, models.originals.margins
    found = held_against(cell.oracle_id, original, oracle)
    these = f"{'published' if models.oracles.published else 'imported'} {cell.oracle_id.label}"
    if found.problems:
        raise KlomError(f"the {these} cannot be used: {'; '.join(found.problems)}")
    for note in found.notes:
        warnings.warn(f"{these}: {note}", stacklevel=2)


@dataclass(frozen=True)
class Marks:
    """What changes with things that a method could reach but must leave alone.

    checkpoints: of each original's (inode, size, time of change). data: of each tensor a count.
    """

    checkpoints: list[tuple[int, int, int]]
    data: list[int]


def versions(cell: Cell) -> list[int]:
    """Of each tensor of the data, how often it was changed in place."""
    return [t._version for t in cell.task.data_on(cell.device).tensors()]


def marks(cell: Cell, models: Models) -> Marks:
    """Those of now."""
    members = len(models.originals.margins)
    try:
        stats = [path.stat() for path in models.originals.held.checkpoints(members)]
    except OSError as error:
        raise KlomError(
            f"{error.filename} is gone: was the store removed while the run was going on?"
        ) from error
    return Marks([(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats], versions(cell))


def touched(cell: Cell, models: Models, before: Marks) -> str | None:
    """What a method did to things that are not its own; data that were changed are read anew."""
    now = marks(cell, models)
    if problem := changed_data(cell, before.data):
        return problem
    if now.checkpoints != before.checkpoints:
        folder = models.originals.held.folder
        return (
            f"{cell.method.name} wrote to the stored originals in {folder}: "
            "a method must only change the model it is given. "
            f"{how_to_remove(cell.original_id, folder)}, so that they are trained again"
        )
    return None


def changed_data(cell: Cell, before: list[int]) -> str | None:
    """What is to be said where data were changed since they were looked at; they are read anew."""
    if versions(cell) == before:
        return None
    cell.task.forget_data()
    return (
        f"{cell.method.name} changed the data of {cell.task.name} in place, which all tests "
        "share: change a copy of the batch instead (the data were read anew for the next test)"
    )


def refuse_non_finite(cell: Cell, unlearned: np.ndarray) -> None:
    """KlomError where margins of unlearned models are nan or infinite."""
    bad = np.argwhere(~np.isfinite(unlearned))
    if len(bad):
        member, point = bad[0]
        raise KlomError(
            f"{cell.method.name} diverged on {cell.forget_set.name}: the margin of member {member} "
            f"at point {point} is {unlearned[member, point]}, and {len(np.unique(bad[:, 0]))} of "
            f"{cell.members} members have such margins. Lower its learning rate or epochs"
        )


def refuse_copies(cell: Cell, oracle: np.ndarray, unlearned: np.ndarray) -> None:
    """KlomError where an unlearned model says what one oracle says, margin for margin."""
    if cell.method.sees_oracles:
        return
    if same := copies(oracle, unlearned):
        raise KlomError(
            f"{cell.method.name} on {cell.forget_set.name}: {len(same)} of {cell.members} members "
            f"(the first is {same[0]}) have the margins of an oracle that they are scored against, "
            "to the last bit: they are copies of it, or were trained with its seed. A method that "
            "is given oracles names them: def method(model, forget, retain, *, oracles)"
        )


def warn_of_low_scores(cell: Cell, below: Sequence[str]) -> None:
    """A warning where splits score lower than retrained models would in one of a thousand runs."""
    if below:
        warn(
            f"{cell.method.name} on {cell.forget_set.name} of {cell.task.name}: the score of "
            f"{' and '.join(below)} lies below the floor (p < .001), where no retrained models "
            "are. Likely causes: models made from the oracles, or trained with their seeds; noise "
            "on outputs, which hides in KLOM but not in its reverse; members that are there twice"
        )


def refuse_unchanged(cell: Cell, unchanged: Sequence[int]) -> None:
    """KlomError where members are the originals still, and that was not said before."""
    if cell.method.traits.changes_nothing or not unchanged:
        return
    if cell.method.traits.spares_members and len(unchanged) < cell.members:
        return
    some = f" in {len(unchanged)} members (the first is {unchanged[0]})"
    raise KlomError(
        f"{cell.method.name} changed nothing{some if len(unchanged) < cell.members else ''} on "
        f"{cell.forget_set.name} with {dict(cell.hyperparameters)}: they are the originals still. "
        "If that is meant (a control), say @klom_bench.method(changes_nothing=True)"
    )
