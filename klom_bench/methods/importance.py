"""Methods that weigh each parameter by how much it matters to F and to the rest."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.per_example import Size, Slopes, mean_over_examples
from klom_bench.ensemble.points import Points
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method(spares_members=True, tune={"alpha": Range(0.5, 100.0), "lam": Range(0.1, 1.0)})
def ssd(
    model: Ensemble, forget: Points, retain: Points, *, alpha: float = 10.0, lam: float = 1.0
) -> Iterator[None]:
    """Selective synaptic dampening: where I_F > α I_D: θ ← min(λ I_D / I_F, 1) θ.

    I = mean (∂ℓ/∂θ)² over single examples, in eval mode; I_D over all train points, F included.
    Source: Foster 2024 (arXiv 2308.07707). Defaults: α 10, λ 1 as there. I_F / I_D is at most
    |D| / |F|: with a larger α nothing changes.
    Trains: 100 % of the weights.
    Tried with: alpha 1.5.
    """
    dampen(model, *importances(model, forget, retain, _of_loss, torch.square), alpha, lam)
    yield


@method(spares_members=True, tune={"alpha": Range(0.5, 100.0), "lam": Range(0.1, 1.0)})
def lfssd(
    model: Ensemble, forget: Points, retain: Points, *, alpha: float = 10.0, lam: float = 1.0
) -> Iterator[None]:
    """Label-free dampening: as `ssd`, with I = mean |∂‖f(x)‖² / ∂θ|, which needs no labels.

    Source: Foster 2024 (arXiv 2402.19308). Defaults: those of `ssd`, since importances enter by
    their ratio only.
    Trains: 100 % of the weights.
    Tried with: alpha 1.5.
    """
    dampen(model, *importances(model, forget, retain, _of_squared_norm, torch.abs), alpha, lam)
    yield


def importances(
    model: Ensemble, forget: Points, retain: Points, slopes: Slopes, size: Size
) -> tuple[list[Tensor], list[Tensor]]:
    """I_F and I_D."""
    of_f, of_r = (mean_over_examples(model, points, slopes, size) for points in (forget, retain))
    f = len(forget) / (len(forget) + len(retain))
    return of_f, [f * i_f + (1 - f) * i_r for i_f, i_r in zip(of_f, of_r, strict=True)]


def _of_loss(z: Tensor, y: Tensor) -> Tensor:
    """∂ℓ/∂z, ℓ the cross-entropy: [1, ..., classes]."""
    return (z.softmax(-1) - F.one_hot(y, z.shape[-1])).unsqueeze(0)


def _of_squared_norm(z: Tensor, _: Tensor) -> Tensor:
    """∂‖z‖²/∂z: [1, ..., classes]."""
    return 2 * z.unsqueeze(0)


@torch.no_grad()
def dampen(model: Ensemble, i_f: list[Tensor], i_d: list[Tensor], alpha: float, lam: float) -> None:
    """θ ← min(λ I_D / I_F, 1) θ where I_F > α I_D."""
    for p, f, d in zip(model.parameters(), i_f, i_d, strict=True):
        p.copy_(torch.where(f > alpha * d, p * (lam * d / f).clamp(max=1.0), p))


@method(tune={"alpha": Range(1e-9, 0.1)})
def fisher(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 1e-6,
    largest: float = 1e3,
) -> Iterator[None]:
    """Fisher forgetting: θ ← θ + √(α min(1 / F_R, v)) ε, F_R the Fisher information on R.

    Its diagonal: F_R = mean over R of Σ_c p(c|x) (∂ log p(c|x) / ∂θ)², in eval mode; v = largest.
    This is the public code's rule without its factors for single layers (10 for biases, another v
    for the last layer, means over inputs); the paper's noise is (λσ²)^¼ F_R^-¼ ε.
    Source: Golatkar 2020 (arXiv 1911.04933). Defaults: v 1e3 as in that code; α from the middle
    (in powers of ten) of the published range 1e-9 ... .2.
    Sees: retain.
    """
    information = mean_over_examples(model, retain, _scores, torch.square)
    with torch.no_grad():
        for p, f_r in zip(model.parameters(), information, strict=True):
            p.add_((alpha * (1 / f_r).clamp(max=largest)).sqrt() * model.noise_like(p))
    yield


def _scores(z: Tensor, _: Tensor) -> Tensor:
    """√p_c ∂ log p_c / ∂z for every class c: [classes, ..., classes]."""
    p = z.softmax(-1)
    by_class = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).view(
        -1, *[1] * (z.ndim - 1), z.shape[-1]
    )
    return p.movedim(-1, 0).sqrt().unsqueeze(-1) * (by_class - p)
