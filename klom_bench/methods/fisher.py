"""Fisher forgetting: noise where F_R says that a weight hardly matters to R."""

from collections.abc import Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.per_example import mean_over_examples
from klom_bench.ensemble.points import Points
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method(classes=True, tune={"alpha": Range(1e-9, 0.1)})
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
    The paper's noise is (λσ²)^¼ F_R^-¼ ε.
    Paper: Golatkar 2020 (arXiv 1911.04933).
    Code: OPTML-Group/Unlearn-Saliency, `hessian` and `get_mean_var` in Classification/unlearn/
    fisher.py: F_R equal to 1e-14 at batches of one.
    Departures: F_R of single examples (there of batch means), without its factors for single layers
    (10 for biases, another v for the last layer, means over inputs). On `digits` 98 % of weights
    sit at v, so that the noise is nearly the same for all.
    Defaults: v 1e3 as there; α from the middle (in powers of ten) of the published 1e-9 ... .2.
    Costs: R.
    Sees: retain.
    """
    information = mean_over_examples(model, retain, _scores, torch.square)
    with torch.no_grad():
        noises = model.noises_like(information)
        for p, f_r, noise in zip(model.parameters(), information, noises, strict=True):
            p.add_((alpha * (1 / f_r).clamp(max=largest)).sqrt() * noise)
    yield


def _scores(z: Tensor, _: Tensor) -> Tensor:
    """√p_c ∂ log p_c / ∂z for every class c: [classes, ..., classes]."""
    p = z.softmax(-1)
    by_class = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).view(
        -1, *[1] * (z.ndim - 1), z.shape[-1]
    )
    return p.movedim(-1, 0).sqrt().unsqueeze(-1) * (by_class - p)
