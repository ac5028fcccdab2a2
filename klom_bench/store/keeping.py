"""Members become whole, unless one has diverged."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from klom_bench.errors import KlomError
from klom_bench.store.divergence import refuse_diverged
from klom_bench.store.members import Member
from klom_bench.store.training import Evaluated
from klom_bench.store.writing import Weights, remove_weights, write_member
from klom_bench.tasks.ensemble_id import EnsembleId


def keep(
    folder: Path,
    ensemble: EnsembleId,
    evaluated: Sequence[Evaluated],
    weights: Mapping[int, Weights],
    company: Mapping[int, Member],
    computed: str,
    notes: list[str],
) -> None:
    """Make members whole whose weights lie there; KlomError where one of them diverged.

    company: whole members, beside which they may be seen to have diverged. notes: what there is to
    say is added here.
    """
    try:
        weak = refuse_diverged(ensemble, evaluated, company)
    except KlomError:
        remove_weights(folder, ensemble, [e.member for e in evaluated])
        raise
    for e in evaluated:
        write_member(folder, ensemble, e, weights[e.member], computed, notes)
    more = f" (and {len(weak) - 1} more of this pack)" if len(weak) > 1 else ""
    notes += [text + more for text in weak[:1]]
