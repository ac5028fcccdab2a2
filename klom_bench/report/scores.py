"""The text of `klom score`."""

from klom_bench.metrics.summary import STATISTICS, Summary
from klom_bench.report.columns import aligned
from klom_bench.score import Score


def score_table(score: Score) -> str:
    """Each split beside its floor, and what the figures rest on."""
    rows: list[tuple[str, ...]] = [
        ("", "points", *STATISTICS, "floor mean", "floor p95", "p95 below", "reverse mean")
    ]
    rows += [
        (
            split,
            str(score.points[split]),
            *_numbers(summary),
            f"{score.floor.mean:.2f}",
            f"{score.floor.p95:.2f}",
            f"{score.perfect[split]['p95']:.2f}",
            f"{score.reverse[split].mean:.2f}",
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
        "reverse: the other direction"
    )
    return "\n".join([head, *aligned(rows, left=1), foot])


def _numbers(summary: Summary) -> list[str]:
    return [f"{getattr(summary, name):.2f}" for name in STATISTICS]
