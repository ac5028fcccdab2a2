"""What would make scores meaningless, and is refused."""

import warnings
from collections.abc import Sequence

import numpy as np

from klom_bench.cell.cell import Cell
from klom_bench.cell.loading import Models
from klom_bench.cell.unlearning import Unlearning
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


Marks = tuple[list[tuple[int, int, int]], list[int]]


def marks(cell: Cell, models: Models, members: int) -> Marks:
    """Marks that change with what a method could reach but must leave alone.

    Of each original's checkpoint (inode, size, time of change), of each tensor of the data a count.
    """
    data = cell.task.data_on(cell.device)
    try:
        stats = [path.stat() for path in models.originals.held.checkpoints(members)]
    except OSError as error:
        raise KlomError(
            f"{error.filename} is gone: was the store removed while the run was going on?"
        ) from error
    checkpoints = [(s.st_ino, s.st_size, s.st_mtime_ns) for s in stats]
    return checkpoints, [t._version for t in data.tensors()]


def touched(cell: Cell, models: Models, before: Marks) -> str | None:
    """What a method did to things that are not its own; data that were changed are read anew."""
    checkpoints, data = marks(cell, models, len(before[0]))
    if data != before[1]:
        cell.task.forget_data()
        return (
            f"{cell.method.name} changed the data of {cell.task.name} in place, which all tests "
            "share: change a copy of the batch instead (the data were read anew for the next test)"
        )
    if checkpoints != before[0]:
        folder = models.originals.held.folder
        return (
            f"{cell.method.name} wrote to the stored originals in {folder}: "
            "a method must only change the model it is given. "
            f"{how_to_remove(cell.original_id, folder)}, so that they are trained again"
        )
    return None


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


def are_unchanged(run: Unlearning, unlearned: np.ndarray, originals: np.ndarray) -> Sequence[bool]:
    """Which of a pack's members are the originals still; margins [pack, points] of both.

    Where outputs were changed, not weights, margins tell.
    """
    if run.result is run.model:
        return run.unchanged()
    same: list[bool] = np.isclose(unlearned, originals, rtol=0, atol=1e-6).all(1).tolist()
    return same


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
