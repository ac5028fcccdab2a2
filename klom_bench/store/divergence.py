"""Members that diverged in training, which would make scores meaningless, and those that are weak.

A member diverged if its margins are not finite, if they are WIDE times as large as the median
member's in the mean, or if it collapsed: right on no more than chance (by LUCK) where the median
member has learned (more than half of the way from chance to 1). As an oracle it would stretch the
bins until nothing shows. Everything else is a member like another, however little it has learned;
one that is right on FAR less of its own train points than the median member, or on no more than
chance, is said to be weak.
"""

from collections.abc import Mapping, Sequence
from statistics import median_low

import numpy as np

from klom_bench.errors import KlomError
from klom_bench.metrics.far import FAR, WIDE
from klom_bench.store.members import Member
from klom_bench.store.training import Evaluated
from klom_bench.tasks.ensemble_id import EnsembleId

LUCK = 0.02


def refuse_diverged(
    ensemble: EnsembleId, evaluated: Sequence[Evaluated], company: Mapping[int, Member]
) -> list[str]:
    """KlomError where a member diverged, beside those in the store; what is weak, in words."""
    every: list[Evaluated | Member] = [*evaluated, *company.values()]
    accuracies = [member.accuracy["retain"] for member in every]
    finite = [member.margin_size for member in every if np.isfinite(member.margin_size)]
    usual, usual_size = median_low(accuracies), median_low(finite or [0.0])
    chance = 1 / ensemble.task.data.classes
    learned = usual > (1 + chance) / 2
    weak = []
    for one in evaluated:
        a = one.accuracy["retain"]
        collapsed = learned and a <= chance + LUCK
        # Written so that nan counts as diverged.
        if not one.margin_size <= WIDE * usual_size or collapsed:
            raise KlomError(
                f"member {one.member} of the {ensemble.label} diverged in training: "
                f"{'no better than chance, ' if collapsed else ''}accuracy {a:.3f} "
                f"on its own train points and mean margin size {one.margin_size:.3g}, where the "
                f"medians are {usual:.3f} and {usual_size:.3g} and chance is {chance:.3g}. An "
                "ensemble with such a member would make scores meaningless. Use a steadier recipe "
                "or another seed; nothing of this pack was kept"
            )
        if a < usual - FAR or a <= chance + LUCK:
            weak.append(
                f"member {one.member} of the {ensemble.label} is weak: accuracy {a:.3f} on its own "
                f"train points, where the median member has {usual:.3f} and chance is "
                f"{chance:.3g}. It counts like the others"
            )
    return weak
