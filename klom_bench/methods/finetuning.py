"""Methods that only descend on the retain set, and hope that F is forgotten on the way."""

from collections.abc import Iterator

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent, clip_gradients
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method()
def finetune(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 0.01,
    epochs: int = 10,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Fine-tuning: min L_R (Warnecke 2021; Golatkar 2020).

    Defaults: as in most public comparisons: lr .01, 10 epochs, batch 256, momentum .9, weight decay
    5e-4.
    Sees: retain.
    """
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield


@method(tune={"sigma": Range(0.01, 1.0)})
def noisy_descent(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-3,
    epochs: int = 5,
    batch_size: int = 256,
    clip: float = 1.0,
    sigma: float = 0.01,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Noisy descent on R: θ ← θ - η (clip(g, C) + σ ε), clipped per model (Chien 2024; Neel 2021).

    The noise is added to the gradient, as in the public code. Defaults: C 1, σ .01, lr 1e-3,
    5 epochs, batch 256 (the public code).
    Sees: retain.
    """
    optimizer = descent.optimizer_for(model, lr)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            clip_gradients(model, clip)
            for p in model.parameters():
                if p.grad is not None:
                    p.grad += sigma * model.noise_like(p)
            optimizer.step()
        yield
