"""Files of members, and their lines in the manifest."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from klom_bench.files import atomic
from klom_bench.store.manifest import Manifest, Member, Weights, identity, load, save
from klom_bench.store.stale import lock
from klom_bench.store.training import Evaluated, Trained
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId


def read_state(folder: Path, ensemble: EnsembleId, member: int, weights: Weights) -> dict[str, Any]:
    """The state dict of a member that was trained, by its checksum."""
    path = folder / ensemble.checkpoint_file(member)
    return atomic.state_from(atomic.read(path, weights.file))


def write_weights(
    folder: Path, ensemble: EnsembleId, trained: Sequence[Trained]
) -> dict[int, Weights]:
    """Keep the weights of members whose margins are not known yet."""
    new = {}
    for t in trained:
        path = folder / ensemble.checkpoint_file(t.member)
        checksum = atomic.write(path, atomic.state_bytes(t.state))
        new[t.member] = Weights(checksum, t.seconds, t.made_with)
    change_manifest(folder, ensemble, trained=new)
    return new


def write_margins(
    folder: Path,
    ensemble: EnsembleId,
    evaluated: Sequence[Evaluated],
    weights: Mapping[int, Weights],
) -> None:
    """Keep the margins of members, which are whole from now on."""
    new = {}
    for e in evaluated:
        mine = weights[e.member]
        sums = {ensemble.checkpoint_file(e.member): mine.file}
        for part, margins in zip(PARTS, (e.train_margins, e.val_margins), strict=True):
            name = ensemble.margins_file(e.member, part)
            sums[name] = atomic.write(folder / name, atomic.array_bytes(margins))
        new[e.member] = Member(sums, e.accuracy, e.margin_size, mine.seconds, mine.made_with)
    change_manifest(folder, ensemble, members=new, without=list(new))


def change_manifest(
    folder: Path,
    ensemble: EnsembleId,
    trained: Mapping[int, Weights] | None = None,
    members: Mapping[int, Member] | None = None,
    without: Sequence[int] = (),
) -> None:
    """Add to the manifest; `without`: members that are no longer merely trained."""
    with lock(folder, "manifest"):
        now = load(folder, ensemble) or Manifest({}, {})
        left = {i: w for i, w in {**now.trained, **(trained or {})}.items() if i not in without}
        save(folder, Manifest(identity(ensemble), {**now.members, **(members or {})}, left))
