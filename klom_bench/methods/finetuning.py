"""Methods that only descend on the retain set, and hope that F is forgotten on the way."""

from collections.abc import Iterator

from klom_bench.ensemble.clipping import clip_gradients
from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
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
    """Fine-tuning: min L_R.

    Paper: Golatkar 2020 (arXiv 1911.04933), Warnecke 2021 (arXiv 2108.11577).
    Code: OPTML-Group/Unlearn-Saliency, `FT` in Classification/unlearn/FT.py: equal to 4.4e-16.
    Departures: none.
    Defaults: lr .01, 10 epochs, batch 256, momentum .9, weight decay 5e-4 as most public
    comparisons have it.
    Costs: epochs * R.
    Sees: retain.
    """
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            model.loss(x, y).backward()
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
    """Noisy descent on R: θ ← θ - η (clip(g, C) + σ ε), g clipped by model.

    Paper: Chien 2024 (arXiv 2401.10371), Neel 2021 (arXiv 2007.02923), both with another rule.
    Code: easydub/EasyDUB-code, easydub/unlearning.py: equal to 3.3e-16 (read; its loop run).
    Departures: from that code none. Chien clips by example and adds √(2η) σ ε, which at lr 1e-3 is
    45 times as much noise as η σ ε.
    Defaults: C 1, σ .01, lr 1e-3, 5 epochs, batch 256 of that code's test script.
    Costs: epochs * R.
    Sees: retain.
    """
    optimizer = descent.optimizer_for(model, lr)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            model.loss(x, y).backward()
            clip_gradients(model, clip)
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            for gradient, noise in zip(gradients, model.noises_like(gradients), strict=True):
                gradient += sigma * noise
            optimizer.step()
        yield
