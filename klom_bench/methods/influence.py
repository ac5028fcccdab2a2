"""The influence function: one Newton step towards the loss without F."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, in_eval_mode
from klom_bench.ensemble.gradient import gradient
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Choice, Range

Vector = Sequence[Tensor]
"""One vector a member, in the parameters' shapes [M, ...]."""


@method(
    spares_members=True,
    tune={
        "alpha": Range(0.3, 3.0),
        "damping": Range(1e-4, 0.1),
        "iterations": Range(3, 9, whole=True),
        "batch_size": Choice((512,)),
    },
)
def influence(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 1.0,
    damping: float = 0.01,
    iterations: int = 10,
    batch_size: int = 512,
) -> Iterator[None]:
    """Influence unlearning: θ ← θ + α (H_R + δ)⁻¹ Σ_F ∇ℓ / |R|.

    H_R is the Hessian of the mean loss on R, in eval mode; the inverse by conjugate gradients,
    member by member; a member stops where it meets negative curvature (truncated Newton).
    Source: Koh 2017, Izzo 2021; Jia 2023 (arXiv 2304.04934) for α. Defaults: α 1 is the influence
    function itself; damping δ .01 as Koh 2017; iterations and batch are ours.
    """
    parameters = list(model.parameters())
    f_to_r = len(forget) / len(retain)
    g_f = [f_to_r * g for g in gradient(model, forget, parameters, batch_size)]

    def times_h(v: Vector) -> Vector:
        """(H_R + δ) v."""
        total = [damping * part for part in v]
        for x, y in retain.batches(batch_size):
            loss = cross_entropy(model(x), y) * (y.shape[1] / len(retain))
            g = torch.autograd.grad(loss, parameters, create_graph=True)
            h_v = torch.autograd.grad(dot(g, v).sum(), parameters)
            total = [t + h for t, h in zip(total, h_v, strict=True)]
        return total

    with in_eval_mode(model):
        step = conjugate_gradients(times_h, g_f, iterations)
    with torch.no_grad():
        for p, s in zip(parameters, step, strict=True):
            p.add_(alpha * s)
    yield


def conjugate_gradients(times_a: Callable[[Vector], Vector], b: Vector, iterations: int) -> Vector:
    """x with A x = b, each member's own; A symmetric."""
    x, r = [torch.zeros_like(part) for part in b], list(b)
    p, rr = r, dot(r, r)
    going = rr > 0
    for _ in range(iterations):
        ap = times_a(p)
        pap = dot(p, ap)
        going = going & (pap > 0)
        a = torch.where(going, rr / pap, 0.0)
        x = [u + per_member(a, v) * v for u, v in zip(x, p, strict=True)]
        r = [u - per_member(a, v) * v for u, v in zip(r, ap, strict=True)]
        new = dot(r, r)
        beta = torch.where(going, new / rr, 0.0)
        going = going & (new > 0)
        p = [u + per_member(beta, v) * v for u, v in zip(r, p, strict=True)]
        rr = new
    return x


def dot(u: Vector, v: Vector) -> Tensor:
    """One scalar product a member: [M]."""
    return torch.stack([(a * b).flatten(1).sum(1) for a, b in zip(u, v, strict=True)]).sum(0)
