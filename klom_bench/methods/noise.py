"""Methods that never look at F, only at which class it is."""

from collections.abc import Iterator

import torch

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import ADAM, Range


@method(
    class_wise=True,
    tune={
        "impair_lr": ADAM,
        "repair_lr": ADAM,
        "penalty": Range(0.01, 1.0),
        "noise_lr": Range(0.01, 1.0),
    },
)
def unsir(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    noise_lr: float = 0.1,
    noise_steps: int = 40,
    penalty: float = 0.1,
    impair_lr: float = 0.02,
    repair_lr: float = 0.01,
    noise_size: int = 256,
    batch_size: int = 256,
    descent: Descent = Descent(optimizer="adam", schedule=None),
) -> Iterator[None]:
    """UNSIR: learn noise N that maximises the loss of class c, impair on N and R, repair on R.

    N: min over N of -ℓ(f0(N), c) + λ mean ‖N‖², by Adam from standard normal noise, a batch a
    member. Impair: an epoch over R, each batch joined by as much of N with the label c. Repair: an
    epoch over R. Both by Adam. c is the class of F, which is all that is used of F.
    Source: Tarun 2023 (arXiv 2111.08947, not checked). Defaults: of its code, lr .1 and 5 x 8 steps
    for the noise, λ .1, lr .02 to impair and .01 to repair, 256 examples a batch.
    Sees: retain.
    """
    x, y = next(forget.batches(1))
    c = y.expand(-1, noise_size)
    forget.seen -= 1
    noise = model.noise_like(x.expand(-1, noise_size, *x.shape[2:]))
    f0 = model.clone().eval().requires_grad_(False)
    noise.requires_grad_()
    teacher = torch.optim.Adam([noise], lr=noise_lr)
    for _ in range(noise_steps):
        teacher.zero_grad()
        size = noise.square().flatten(2).sum(-1).mean(1).sum()
        (penalty * size - cross_entropy(f0(noise), c)).backward()
        teacher.step()
    for lr, with_noise in ((impair_lr, True), (repair_lr, False)):
        optimizer = descent.optimizer_for(model, lr)
        for x, y in retain.batches(batch_size):
            if with_noise:
                b = y.shape[1]
                x, y = torch.cat([x, noise.detach()[:, :b]], 1), torch.cat([y, c[:, :b]], 1)
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
    yield
