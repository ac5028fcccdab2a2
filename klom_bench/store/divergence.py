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
STEADIER = "Use a steadier training or another seed; nothing of this pack was kept"


def refuse_diverged(
    ensemble: EnsembleId,
    evaluated: Sequence[Evaluated],
    company: Mapping[int, Member],
    advice: str = STEADIER,
) -> list[str]:
    """KlomError where a member diverged, beside those in the store; what is weak, in words.

    advice: what to do about it.
    """
    every: list[Evaluated | Member] = [*evaluated, *company.values()]
    accuracies = [_accuracy(member) for member in every]
    finite = [member.margin_size for member in every if np.isfinite(member.margin_size)]
    usual, usual_size = median_low(accuracies), median_low(finite or [0.0])
    outputs = ensemble.task.outputs
    chance = 1 / ensemble.task.data.classes if outputs.classes else 0.0
    learned = usual > (1 + chance) / 2
    weak = []
    for one in evaluated:
        a = _accuracy(one)
        collapsed = outputs.classes and learned and a <= chance + LUCK
        # Written so that nan counts as diverged.
        if not one.margin_size <= WIDE * max(usual_size, _spread(ensemble)) or collapsed:
            if not outputs.classes:
                raise KlomError(
                    f"member {one.member} of the {ensemble.label} diverged in training: mean "
                    f"margin size {one.margin_size:.3g}, where the median is {usual_size:.3g}. An "
                    f"ensemble with such a member would make scores meaningless. {advice}"
                )
            raise KlomError(
                f"member {one.member} of the {ensemble.label} diverged in training: "
                f"{'no better than chance, ' if collapsed else ''}accuracy {a:.3f} "
                f"on its own train points and mean margin size {one.margin_size:.3g}, where the "
                f"medians are {usual:.3f} and {usual_size:.3g} and chance is {chance:.3g}. An "
                f"ensemble with such a member would make scores meaningless. {advice}"
            )
        if outputs.classes and (a < usual - FAR or a <= chance + LUCK):
            weak.append(
                f"member {one.member} of the {ensemble.label} is weak: accuracy {a:.3f} on its own "
                f"train points, where the median member has {usual:.3f} and chance is "
                f"{chance:.3g}. It counts like the others"
            )
    return weak


def _accuracy(member: Evaluated | Member) -> float:
    """On its own train points; 0 where nothing is right or wrong."""
    value = member.accuracy["retain"]
    return value if value is not None and np.isfinite(value) else 0.0


def _spread(ensemble: EnsembleId) -> float:
    """Of what residuals are of, which may be so small that four times as much says nothing."""
    y = ensemble.task.data.y()
    return 0.0 if ensemble.task.outputs.classes or len(y) < 2 else float(y.float().std())
