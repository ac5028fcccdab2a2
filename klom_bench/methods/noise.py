"""Methods that never look at F, only at which class it is."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.optimizers import Adam
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.mixed import mixed
from klom_bench.methods.ranges import ADAM, Choice, Range


@method(
    class_wise=True,
    classes=True,
    moves_inputs=True,
    tune={
        "impair_lr": ADAM,
        "repair_lr": ADAM,
        "penalty": Range(0.01, 1.0),
        "noise_lr": Range(0.01, 1.0),
        "noise_used": Choice((3, 256)),
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
    noise_used: int = 3,
    copies: int = 20,
    per_class: int = 1000,
    batch_size: int = 256,
    descent: Descent = Descent(optimizer="adam", schedule=None),
) -> Iterator[None]:
    """UNSIR: learn noise N that maximises the loss of class c, impair on N and R', repair on R'.

    N: min over N of -ℓ(f(N), c) + λ mean ‖N‖², by Adam from standard normal noise, a batch a
    member, in train mode, so that BatchNorm sees it. R': the first so many points of each class.
    Impair: an epoch over R' and so many copies of the first `noise_used` points of N, labelled c,
    all shuffled. Repair: an epoch over R'. Both by Adam. c, the class of F, is all it uses of F.
    Paper: Tarun 2023 (arXiv 2111.08947).
    Code: vikram2000b/Fast-Machine-Unlearning, cells of Machine Unlearning.ipynb: equal to 3e-14.
    Departures: none. The notebook means to take all of N, but takes as many points as an image has
    channels (`batch[0].size(0)`), 3 of 256; say noise_used 256 for what it means.
    Defaults: lr .1 and 5 x 8 steps for the noise, λ .1, lr .02 to impair and .01 to repair, 20
    copies, 1,000 points a class, 256 examples a batch as there, for RGB images.
    Costs: copies * noise_used + 2 * min(R, per_class * classes).
    Sees: retain.
    Tried with: noise_steps 4, noise_size 16, copies 2.
    """
    x, y = next(forget.batches(1))
    forget.seen -= 1
    noise = model.noise_like(x.expand(-1, noise_size, *x.shape[2:])).requires_grad_()
    labels = y.expand(-1, noise_size)
    learn = Adam([noise], lr=noise_lr)
    for _ in range(noise_steps):
        learn.zero_grad()
        size = noise.square().flatten(2).sum(-1).mean(1).sum()
        (penalty * size - cross_entropy(model(noise), labels)).backward()
        learn.step()
    used = noise.detach()[:, :noise_used]
    some = first_of_classes(retain, per_class)
    numbers = (len(retain.y) + torch.arange(used.shape[1])).repeat(copies)
    rows = torch.cat([numbers.expand(len(model), -1), some.indices], 1)
    for lr, batches in (
        (impair_lr, mixed(some, rows, used, labels[:, :noise_used], batch_size)),
        (repair_lr, some.batches(batch_size)),
    ):
        optimizer = descent.optimizer_for(model, lr)
        for x, y in batches:
            optimizer.zero_grad()
            model.loss(x, y).backward()
            optimizer.step()
    retain.seen += rows.shape[1] + some.seen
    yield


def first_of_classes(points: Points, per_class: int) -> Points:
    """The first so many points of each class; KlomError where members have unlike numbers."""
    rows = []
    for mine in points.by_member.sort().values:
        labels = points.y.cpu()[mine]
        before = F.one_hot(labels).cumsum(0).gather(1, labels.unsqueeze(1)).squeeze(1)
        rows.append(mine[before <= per_class])
    if len({len(mine) for mine in rows}) > 1:
        raise KlomError("unsir: members have unlike numbers of points with so many of each class")
    return Points(points.x, points.y, torch.stack(rows), points.generators, points.prepare)
