"""Margins: how sure a model is of the right class."""

from typing import Any

import numpy as np

from klom_bench.metrics.arrays import arange, cast, namespace, refuse_odd


def margins(logits: Any, labels: Any) -> Any:
    """Log-odds of the true class: m = z_y - logsumexp(z_j for j != y).

    Args:
        logits: [..., points, classes], a NumPy array or a torch tensor of any device; half
            precision is computed in float32, whole numbers in float64.
        labels: integers [points].

    Returns:
        [..., points] of the same kind, in the precision of the logits (at least float32).

    Raises:
        ValueError: shapes do not fit, labels are no integers or out of range, there is one class
            only, or arrays are masked or complex.

    Example:
        >>> import numpy as np
        >>> from klom_bench import margins
        >>> margins(np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1]))
        array([2., 0.])

    Source: KLOM papers (arXiv 2410.23232, 2602.16400).
    """
    xp = namespace(logits, labels)
    refuse_odd(xp, "logits", logits)
    refuse_odd(xp, "labels", labels, "iu")
    if logits.ndim < 2:
        raise ValueError(f"logits must be [..., points, classes], got {tuple(logits.shape)}")
    points, classes = logits.shape[-2:]
    if tuple(labels.shape) != (points,):
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}, logits have {points} points "
            f"(logits [..., points, classes] are {tuple(logits.shape)})"
        )
    if classes < 2:
        raise ValueError("a margin needs at least 2 classes, the logits have 1")
    if points and not (int(labels.min()) >= 0 and int(labels.max()) < classes):
        raise ValueError(f"labels must lie in 0..{classes - 1}, the number of logits of a point")
    single = (xp.float32, xp.float16, *([] if xp is np else [xp.bfloat16]))
    wide = xp.float32 if logits.dtype in single else xp.float64
    z = cast(xp, logits, wide)
    true = arange(xp, classes, labels)[None, :] == labels[:, None]
    z_true = xp.where(true, z, 0.0).sum(-1)
    others = xp.where(true, -np.inf, z)
    top = xp.amax(others, -1)
    finite_top = xp.where(xp.isfinite(top), top, 0.0)
    return z_true - (finite_top + xp.log(xp.exp(others - finite_top[..., None]).sum(-1)))
