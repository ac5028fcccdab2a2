"""The text of `klom score`."""

from klom_bench.metrics.estimate import Estimate
from klom_bench.metrics.summary import STATISTICS, Summary
from klom_bench.report.columns import aligned, with_error
from klom_bench.score import Score


def score_table(score: Score) -> str:
    """Each split beside its floor, and what the figures rest on."""
    rows: list[tuple[str, ...]] = [
        (
            "",
            "points",
            "excess",
            *STATISTICS,
            "floor mean",
            "floor p95",
            "p95 below",
            "reverse mean",
        )
    ]
    rows += [
        (
            split,
            str(score.points[split]),
            _with_error(score.excess[split].forward.estimate) if score.excess else "n/a",
            _with_error(score.means[split][0]),
            *_numbers(summary)[1:],
            f"{score.floor.mean:.2f}",
            f"{score.floor.p95:.2f}",
            f"{score.perfect[split]['p95']:.2f}",
            _with_error(score.means[split][1]),
        )
        for split, summary in score.scores.items()
    ]
    est = score.estimator
    head = (
        f"KLOM of {score.members} unlearned against {score.oracles} oracles, estimator {est.name} "
        f"(KL {est.direction}, nats)"
    )
    foot = (
        "floor: what a perfect unlearner scores at this N; in 95 % of runs its P95 stays `below`; "
        "reverse: the other direction; excess: 0 for a perfect unlearner at every N; ±: 95 %"
    )
    if score.test:
        foot += f"\nlike oracles (permutation test of whole models): p = {score.test.p:.3f}"
    return "\n".join([head, *aligned(rows, left=1), foot])


def _with_error(estimate: Estimate) -> str:
    """A number and half of its 95 % interval."""
    return with_error(estimate.value, estimate.interval()[1])


def _numbers(summary: Summary) -> list[str]:
    return [f"{getattr(summary, name):.2f}" for name in STATISTICS]
