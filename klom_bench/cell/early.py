"""Whether an early look is worth a whole score: what can be said of its gates at little cost."""

from collections.abc import Mapping

import numpy as np

from klom_bench.cell.gates import EXCESS, FREE_OF_N, METRICS
from klom_bench.cell.limits import Limits
from klom_bench.metrics.estimate import judged
from klom_bench.metrics.estimators import Estimator
from klom_bench.metrics.excess import mean_excess
from klom_bench.metrics.klom import klom_and_reverse
from klom_bench.metrics.summary import summarise

WITH_EARLY_PASS = ("mean", "p95")
"""Statistics of KLOM that may pass before the last look."""


def may_settle(
    oracle: np.ndarray,
    unlearned: np.ndarray,
    splits: Mapping[str, np.ndarray],
    estimator: Estimator,
    limits: Limits,
) -> bool:
    """False where one gate at least stays open for sure; errors of KLOM are not reckoned for it.

    Margins [models, points] of both sides.
    """
    risen = [METRICS[metric][2] for metric in limits.regressions if limits.baseline]
    if any(statistic not in FREE_OF_N for statistic in risen):
        return False
    for metric, limit in limits.limits.items():
        reverse, split, statistic = METRICS[metric]
        a, b = (side[:, splits[split]] for side in (oracle, unlearned))
        if statistic == EXCESS:
            (both,) = mean_excess(a, b, {split: np.arange(a.shape[1])}).values()
            if judged(both.forward.estimate, limit, limits.sure(metric)) == "inconclusive":
                return False
        elif statistic not in FREE_OF_N:
            if statistic not in WITH_EARLY_PASS:
                return False
            score = summarise(klom_and_reverse(a, b, estimator)[reverse])
            if not getattr(score, statistic) <= limit:
                return False
    return True
