"""One Newton step towards the loss without F: with the Hessian, and with the Fisher information."""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble, in_eval_mode
from klom_bench.ensemble.gradient import gradient, slopes_of
from klom_bench.ensemble.inputs import Inputs
from klom_bench.ensemble.inputs import each as each_tensor
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
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
    """The influence function: θ ← θ + α (H_R + δ)⁻¹ Σ_F ∇ℓ / |R|, by conjugate gradients.

    H_R is the Hessian of the mean loss on R, in eval mode; the inverse by conjugate gradients,
    member by member; a member stops where it meets negative curvature (truncated Newton). It is not
    the "IU" of published tables, which is `iu`.
    Paper: Koh 2017 (arXiv 1703.04730), Izzo 2021 (arXiv 2002.10077).
    Code: none public does this; equal to a closed form with the whole Hessian to 1e-8.
    Departures: none known.
    Defaults: α 1 is the influence function itself; damping δ .01 as Koh 2017; iterations and batch
    are ours.
    Costs: F + iterations * R.
    """
    parameters = list(model.parameters())
    f_to_r = len(forget) / len(retain)
    g_f = [f_to_r * g for g in gradient(model, forget, parameters, batch_size)]

    def times_h(v: Vector) -> Vector:
        """(H_R + δ) v."""
        total = [damping * part for part in v]
        for x, y in retain.batches(batch_size):
            loss = model.loss(x, y) * (y.shape[1] / len(retain))
            g = slopes_of(loss, parameters, create_graph=True)
            h_v = slopes_of(dot(g, v).sum(), parameters)
            total = [t + h for t, h in zip(total, h_v, strict=True)]
        return total

    with in_eval_mode(model):
        step = conjugate_gradients(times_h, g_f, iterations)
    with torch.no_grad():
        for p, s in zip(parameters, step, strict=True):
            p.add_(alpha * s)
    yield


@method(spares_members=True, tune={"alpha": Range(0.1, 100.0), "batch_size": Choice((256,))})
def iu(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 0.2,
    examples: int = 1002,
    batch_size: int = 256,
) -> Iterator[None]:
    """IU of published tables: θ ← θ + α W v, v = (Σ_F ∇ℓ - |F| / |R| Σ_R ∇ℓ) / |D|, W WoodFisher's.

    From o = g_1 and k = v, for each further example of R with the gradient g:
    k ← k - (k·g) / (n + o·g) o, then o ← o - (o·g) / (n + o·g) o; W v = k after `examples` of them,
    n = examples - 2. Meant as an inverse of the empirical Fisher information whose damping is 1; as
    o keeps the direction of g_1, W v is v but for its part along that one gradient. Eval mode.
    Paper: Jia 2023 (arXiv 2304.04934), "IU".
    Code: OPTML-Group/Unlearn-Saliency, `Wfisher` in Classification/unlearn/Wfisher.py: equal to
    2e-16.
    Departures: examples come in the order of a member's stream (there: as they are stored).
    Defaults: α .2, 1,002 examples, n 1,000 as there (300,000 for ImageNet); batch as `finetune`.
    Costs: F + R + min(R, examples).
    Tried with: examples 12.
    """
    if examples < 3:
        raise KlomError(f"iu: examples must be at least 3, since n = examples - 2; got {examples}")
    parameters = list(model.parameters())
    f, r = len(forget), len(retain)
    g_f, g_r = (gradient(model, points, parameters, batch_size) for points in (forget, retain))
    v = [f / (f + r) * (a - b) for a, b in zip(g_f, g_r, strict=True)]
    g_1: Vector = []
    n = examples - 2
    with in_eval_mode(model):
        for x, y in up_to(examples, retain, batch_size):
            first = not g_1
            if first:  # o = s g_1 and k = v - c g_1, so that only dot products change
                one = each_tensor(lambda t: t[:, :1], x)
                g_1 = slopes_of(model.loss(one, y[:, :1]), parameters)
                s, c = torch.ones_like(dot(v, v)), torch.zeros_like(dot(v, v))
            each = zip(*dots(model, x, y, parameters, (g_1, v)), strict=True)
            for g_1g, vg in islice(each, int(first), None):
                og, kg = s * g_1g, vg - c * g_1g
                c = c + kg / (n + og) * s
                s = s - og / (n + og) * s
    with torch.no_grad():
        for p, a, b in zip(parameters, v, g_1, strict=True):
            p.add_(alpha * (a - per_member(c, b) * b))
    yield


def up_to(examples: int, points: Points, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
    """Batches of the points, of so many examples in all."""
    for x, y in points.batches(batch_size):
        points.seen -= max(0, y.shape[1] - examples)
        yield each_tensor(lambda t, n=examples: t[:, :n], x), y[:, :examples]
        examples -= y.shape[1]
        if examples <= 0:
            return


def dots(
    model: Ensemble, x: Inputs, y: Tensor, parameters: Vector, vectors: Sequence[Vector]
) -> list[Tensor]:
    """∇ℓ · v of each example, [B, M] for each of the vectors v, by a second derivative."""
    losses = model.losses(x, y)
    u = torch.ones_like(losses, requires_grad=True)
    slopes = slopes_of((u * losses).sum(), parameters, create_graph=True)
    return [torch.autograd.grad(dot(slopes, v).sum(), u, retain_graph=True)[0].T for v in vectors]


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
