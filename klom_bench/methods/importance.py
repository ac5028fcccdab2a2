"""Methods that weigh each parameter by how much it matters to F and to the rest."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, jacrev

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.per_example import Outputs, Parameters, Statistic, mean_over_examples
from klom_bench.ensemble.points import Points


def ssd(
    model: Ensemble, forget: Points, retain: Points, *, alpha: float = 10.0, lam: float = 1.0
) -> Iterator[None]:
    """Selective synaptic dampening: where I_F > α I_D: θ ← min(λ I_D / I_F, 1) θ.

    I = mean (∂ℓ/∂θ)² over single examples, in eval mode; I_D over all train points, F included.
    Source: Foster 2024 (arXiv 2308.07707). Defaults: α 10, λ 1 as there.
    Trains: 100 % of the weights.
    """
    dampen(model, *importances(model, forget, retain, _squared_gradient), alpha, lam)
    yield


def lfssd(
    model: Ensemble, forget: Points, retain: Points, *, alpha: float = 10.0, lam: float = 1.0
) -> Iterator[None]:
    """Label-free dampening: as `ssd`, with I = mean |∂‖f(x)‖² / ∂θ|, which needs no labels.

    Source: Foster 2024 (arXiv 2402.19308). Defaults: those of `ssd`, since importances enter by
    their ratio only.
    Trains: 100 % of the weights.
    """
    dampen(model, *importances(model, forget, retain, _output_sensitivity), alpha, lam)
    yield


def _squared_gradient(f: Outputs, theta: Parameters, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    found = grad(lambda t: F.cross_entropy(f(t, x), y))(theta)
    return {name: g.square() for name, g in found.items()}


def _output_sensitivity(f: Outputs, theta: Parameters, x: Tensor, _: Tensor) -> dict[str, Tensor]:
    found = grad(lambda t: f(t, x).square().sum())(theta)
    return {name: g.abs() for name, g in found.items()}


def importances(
    model: Ensemble, forget: Points, retain: Points, statistic: Statistic
) -> tuple[list[Tensor], list[Tensor]]:
    """I_F and I_D."""
    of_f, of_r = (mean_over_examples(model, points, statistic) for points in (forget, retain))
    f = len(forget) / (len(forget) + len(retain))
    return of_f, [f * i_f + (1 - f) * i_r for i_f, i_r in zip(of_f, of_r, strict=True)]


@torch.no_grad()
def dampen(model: Ensemble, i_f: list[Tensor], i_d: list[Tensor], alpha: float, lam: float) -> None:
    """θ ← min(λ I_D / I_F, 1) θ where I_F > α I_D."""
    for p, f, d in zip(model.parameters(), i_f, i_d, strict=True):
        p.copy_(torch.where(f > alpha * d, p * (lam * d / f).clamp(max=1.0), p))


def fisher(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 1e-6,
    largest: float = 1e3,
) -> Iterator[None]:
    """Fisher forgetting: θ ← θ + √min(α / F_R, v) ε, F_R the Fisher information on R.

    Its diagonal: F_R = mean over R of Σ_c p(c|x) (∂ log p(c|x) / ∂θ)², in eval mode; v = largest.
    This is the public code's rule; the paper's noise is (λσ²)^¼ F_R^-¼ ε.
    Source: Golatkar 2020 (arXiv 1911.04933). Defaults: variances of at most 1e3 as in that code;
    α from the middle (in powers of ten) of the published range 1e-9 ... .2.
    Sees: retain.
    """
    information = mean_over_examples(model, retain, _fisher)
    with torch.no_grad():
        for p, f_r in zip(model.parameters(), information, strict=True):
            p.add_((alpha / f_r).clamp(max=largest).sqrt() * model.noise_like(p))
    yield


def _fisher(f: Outputs, theta: Parameters, x: Tensor, _: Tensor) -> dict[str, Tensor]:
    p = f(theta, x).softmax(0)
    scores = jacrev(lambda t: f(t, x).log_softmax(0))(theta)
    return {name: torch.einsum("c,c...->...", p, s.square()) for name, s in scores.items()}
