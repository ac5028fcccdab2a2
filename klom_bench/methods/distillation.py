"""Methods in which the original teaches what to keep."""

from collections.abc import Iterator

import torch

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy, kl
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import ADAM, SHARE, Range


# With m = 1 the first forget batch has no gradient, since f is f0 still.
@method(tune={"alpha": Range(0.01, 10.0), "max_epochs": Range(2, 5, whole=True)})
def scrub(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    gamma: float = 0.99,
    alpha: float = 0.1,
    temperature: float = 4.0,
    max_epochs: int = 3,
    epochs: int = 10,
    lr: float = 0.01,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_epochs: tuple[int, ...] = (3, 5, 9),
    decay: float = 0.1,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """SCRUB: first m epochs max KL(f0 || f) on F; every epoch min γ L_R + α KL(f0 || f) on R.

    KL_T = T² KL(softmax(f0 / T) || softmax(f / T)), f0 the original, frozen; m = max_epochs.
    Source: Kurmanji 2023 (arXiv 2302.09880), defaults of its code: γ .99, α .1, T 4, m 3, lr .01,
    momentum .9, weight decay 5e-4, lr x .1 after epochs 3, 5 and 9.
    """
    teacher = model.clone().eval().requires_grad_(False)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(decay_epochs), decay)
    for epoch in descent.epochs(optimizer, epochs):
        if epoch < max_epochs:
            for x, _ in forget.batches(batch_size):
                optimizer.zero_grad()
                (-kl(teacher(x), model(x), temperature)).backward()
                optimizer.step()
        for x, y in retain.batches(batch_size):
            z = model(x)
            optimizer.zero_grad()
            loss = gamma * cross_entropy(z, y) + alpha * kl(teacher(x), z, temperature)
            loss.backward()
            optimizer.step()
        schedule.step()
        yield


@method(tune={"lr": ADAM, "share": SHARE})
def bad_teacher(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    share: float = 0.3,
    temperature: float = 1.0,
    lr: float = 1e-4,
    epochs: int = 1,
    batch_size: int = 256,
    descent: Descent = Descent(optimizer="adam"),
) -> Iterator[None]:
    """Two teachers: min KL(f0 || f) on a part of R, KL(g || f) on F, g a random network.

    F and a share of R, drawn once, are shuffled together; each member has a random g of its own.
    KL_T = T² KL(softmax(f0 / T) || softmax(f / T)).
    Source: Chundawat 2023 (arXiv 2205.08096). Defaults: Adam 1e-4, 1 epoch, 30 % of R, T 1, as in
    its code; batch 256.
    """
    competent = model.clone().eval().requires_grad_(False)
    random = model.clone().eval().requires_grad_(False)
    random.load_states(model.fresh_states())
    some = round(share * len(retain))
    is_forget = torch.zeros(len(forget.x), dtype=torch.bool)
    is_forget[forget.indices.flatten()] = True
    both = together(forget, retain, some, is_forget)
    optimizer = descent.optimizer_for(model, lr)
    for _ in descent.epochs(optimizer, epochs):
        for x, forgotten in both.batches(batch_size):
            target = torch.where(forgotten.unsqueeze(-1), random(x), competent(x))
            optimizer.zero_grad()
            kl(target, model(x), temperature).backward()
            optimizer.step()
        forget.seen += len(forget)
        retain.seen += some
        yield


def together(
    forget: Points, retain: Points, some: int, labels: torch.Tensor, repeats: int = 1
) -> Points:
    """F, so often, and `some` points of R for each member, drawn from its stream.

    labels: what y is to be, one for every train point.
    """
    rows = []
    for i, g in enumerate(retain.generators):
        f, r = (points.of_member(i).indices for points in (forget, retain))
        drawn = r[torch.randperm(len(r), generator=g)[:some]]
        rows.append(torch.cat([f.repeat(repeats), drawn]))
    on_device = labels.to(forget.x.device)
    return Points(forget.x, on_device, torch.stack(rows), forget.generators, forget.prepare)
