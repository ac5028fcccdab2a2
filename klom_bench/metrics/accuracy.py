"""Accuracy of many models at once."""

from typing import Any

from klom_bench.metrics.arrays import cast, namespace


def accuracy(logits: Any, labels: Any) -> Any:
    """Fraction of points whose largest logit is the true class.

    logits [..., points, classes], labels [points]; returns float64 [...] of the same kind.
    """
    xp = namespace(logits, labels)
    return cast(xp, logits.argmax(-1) == labels, xp.float64).mean(-1)
