"""Methods that fit the gradient of F to that of R: in length, direction and weights."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from klom_bench.ensemble.clipping import clip_gradients
from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.gradient import slopes_of
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.methods.dampening import mean_over_batches
from klom_bench.methods.descent import SCHEDULES, Descent
from klom_bench.methods.influence import dot
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method(classes=True, tune={"beta": Range(0.01, 1.0), "clip": Range(0.1, 10.0)})
def munba(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    beta: float = 0.1,
    clip: float = 1.0,
    lr: float = 0.01,
    epochs: int = 10,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """MUNBa: steps along α_R ∇L_R + α_F ∇L_F', the Nash bargain of the two gradients.

    L_F' is the cross-entropy on F with labels drawn anew among all classes, the true one included.
    With g1 = ‖∇L_R‖², g2 = ∇L_R · ∇L_F', g3 = ‖∇L_F'‖² of the two batches and ε = 1e-8:
    α_R² = (g1 g3 - g2 √(g1 g3)) / (g1² g3 - g1 g2² + ε), α_F = (1 - g1 α_R²) / (g2 α_R + ε);
    where not both are positive, 1 and β. The sum is clipped to `clip`. But for ε it is √2 long and
    halves the angle between the two. An epoch is one over R; once its batches of F are used up,
    steps are along ∇L_R, not clipped.
    Paper: Wu 2024 (arXiv 2411.15537).
    Code: JingWu321/MUNBa, `munba` in Classification/unlearn/MUNBa.py: equal to 5e-16
    but for its single precision of α and the 1e-6 that torch adds to the norm it clips by (4e-8).
    Departures: where F has more batches than R (there the code fails) the rest is left out.
    Defaults: lr .01, 10 epochs, batch 256, momentum .9, weight decay 5e-4 as in its
    `arg_parser.py`; β .1, clip 1 as in `munba`.
    Costs: epochs * (min(F, batch_size * ceil(R / batch_size)) + R).
    """
    parameters = list(model.parameters())
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        forget_batches = forget.batches(batch_size)
        for x_r, y_r in retain.batches(batch_size):
            loss_r = model.loss(x_r, y_r)
            optimizer.zero_grad()
            if (batch := next(forget_batches, None)) is None:
                loss_r.backward()
            else:
                z = model(batch[0])
                loss_f = cross_entropy(z, any_label(batch[1], z.shape[-1], model))
                g_r, g_f = (slopes_of(loss, parameters) for loss in (loss_r, loss_f))
                a_r, a_f = nash_weights(g_r, g_f, beta)
                for p, r, f in zip(parameters, g_r, g_f, strict=True):
                    p.grad = per_member(a_r, r) * r + per_member(a_f, f) * f
                clip_gradients(model, clip)
            optimizer.step()
        yield


def any_label(y: Tensor, classes: int, model: Ensemble) -> Tensor:
    """Labels [M, B] drawn among all classes, each member's from its own stream."""
    drawn = [torch.randint(classes, y.shape[1:], generator=g) for g in model.generators]
    return torch.stack(drawn).to(y.device)


def nash_weights(
    g_r: Sequence[Tensor], g_f: Sequence[Tensor], beta: float, eps: float = 1e-8
) -> tuple[Tensor, Tensor]:
    """α_R and α_F of each member, [M]; 1 and β where the bargain fails."""
    g1, g2, g3 = dot(g_r, g_r), dot(g_r, g_f), dot(g_f, g_f)
    a_r = ((g1 * g3 - g2 * (g1 * g3).sqrt()) / (g1 * g1 * g3 - g1 * g2 * g2 + eps)).sqrt()
    a_f = (1 - g1 * a_r * a_r) / (g2 * a_r + eps)
    agreed = (a_r > 0) & (a_f > 0)
    return torch.where(agreed, a_r, 1.0), torch.where(agreed, a_f, beta)


@method(
    tune={
        "alpha": Range(0.3, 100.0),
        "gamma": Range(0.01, 10.0),
        "lr": Range(1e-4, 10.0),
        "every": Range(1, 10, whole=True),
        "clip": Range(0.1, 10.0),
    }
)
def sfron(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 25.0,
    lam: float = 0.5,
    gamma: float = 1.0,
    every: int = 5,
    clip: float = 7.0,
    lr: float = 0.01,
    epochs: int = 4,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """SFR-on: min L_R; before every k-th step one of max α_t Σ w_i ℓ_i on F in salient weights.

    w_i = ℓ_i^-λ / Σ_j ℓ_j^-λ over a batch of F, without a gradient of its own; k = `every`.
    Salient is where I_F ≥ γ I_R of f0, I = mean over batches of (∇L)², in eval mode; the gradient
    on F is 0 elsewhere and clipped to `clip`. One optimizer takes all steps, with one momentum.
    α_t and lr fall on a cosine to 0, step by step. F is cycled; an epoch is one over R.
    Paper: Huang 2024 (arXiv 2409.19732).
    Code: K1nght/Unified-Unlearning-w-Remain-Geometry, `SFRon` in Classification/unlearn/sfron.py:
    equal to 6e-17 but for the 1e-6 that torch adds to the norm it clips by (3e-9).
    Departures: its averaging of weights is left out, which does nothing at its default (β 1).
    Defaults: α 25, λ .5, γ 1, every 5th step, clip 7, lr .01, momentum .9, weight decay 5e-4 as in
    `SFRon`, batch 128 as in its `main_random.py`; 4 epochs for its 1500 steps, which are 4.3
    epochs of 90 % of CIFAR-10.
    Costs: F + R + epochs * R * (1 + F / (every * batch_size * ceil(F / batch_size))).
    """
    masks = salient_weights(model, forget, retain, gamma, batch_size)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    steps = epochs * -(-len(retain) // batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    forget_batches, t = forget.cycle(batch_size), itertools.count()
    for _ in descent.epochs(optimizer, epochs):
        for x_r, y_r in retain.batches(batch_size):
            if (step := next(t)) % every == 0:
                x, y = next(forget_batches)
                optimizer.zero_grad()
                alpha_t = SCHEDULES["cosine"](step, steps) * alpha
                (-alpha_t * adaptive_loss(model.losses(x, y), lam)).backward()
                for p, mask in zip(model.parameters(), masks, strict=True):
                    if p.grad is not None:
                        p.grad *= mask
                clip_gradients(model, clip)
                optimizer.step()
            optimizer.zero_grad()
            model.loss(x_r, y_r).backward()
            optimizer.step()
            schedule.step()
        yield


def salient_weights(
    model: Ensemble, forget: Points, retain: Points, gamma: float, batch_size: int
) -> list[Tensor]:
    """One mask a parameter, [M, ...]: where I_F ≥ γ I_R."""
    of_f, of_r = (
        mean_over_batches(model, points, model.outputs.mean_loss, torch.square, batch_size)
        for points in (forget, retain)
    )
    return [(f + 1e-15) / (r + 1e-15) >= gamma for f, r in zip(of_f, of_r, strict=True)]


def adaptive_loss(losses: Tensor, lam: float) -> Tensor:
    """Σ w_i ℓ_i of each member, w_i ~ ℓ_i^-λ, summed over members; losses [M, B]."""
    w = 1 / (losses.detach() ** lam + 1e-15)
    return (w / w.sum(1, keepdim=True) * losses).sum()
