"""Methods in which the original teaches what to keep."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import kl
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import ADAM, BATCHES, SHARE, Range


# With m = 1 the first forget batch has no gradient, since f is f0 still.
@method(
    classes=True,
    tune={
        "alpha": Range(0.01, 10.0),
        "max_epochs": Range(2, 5, whole=True),
        "forget_batch_size": BATCHES,
    },
)
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
    lr: float = 5e-4,
    forget_batch_size: int = 64,
    batch_size: int = 32,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    decay_epochs: tuple[int, ...] = (3, 5, 9),
    decay: float = 0.1,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """SCRUB: first m epochs max KL(f0 || f) on F; every epoch min γ L_R + α KL(f0 || f) on R.

    KL_T = T² KL(softmax(f0 / T) || softmax(f / T)), f0 the original, frozen; m = max_epochs.
    Paper: Kurmanji 2023 (arXiv 2302.09880).
    Code: meghdadk/SCRUB, `train_distill` in thirdparty/repdistiller/helper/loops.py: equal to
    5.6e-16.
    Departures: none.
    Defaults: lr 5e-4 and momentum .9 of all its notebooks, m 3 of two of them, batches of 64 and 32
    of some (128 and 32 in others); γ .99, α .1 (.001 to .5 in its notebooks), T 4, lr x .1 after
    epochs 3, 5 and 9 of RoyRin/data-unlearning-bench; epochs and weight decay as `finetune`.
    Costs: min(max_epochs, epochs) * F + epochs * R.
    Tried with: lr 0.01, epochs 4, batch_size 64.
    """
    teacher = model.clone().eval().requires_grad_(False)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(decay_epochs), decay)
    for epoch in descent.epochs(optimizer, epochs):
        if epoch < max_epochs:
            for x, _ in forget.batches(forget_batch_size):
                optimizer.zero_grad()
                (-kl(teacher(x), model(x), temperature)).backward()
                optimizer.step()
        for x, y in retain.batches(batch_size):
            z = model(x)
            optimizer.zero_grad()
            loss = gamma * model.outputs.mean_loss(z, y) + alpha * kl(teacher(x), z, temperature)
            loss.backward()
            optimizer.step()
        schedule.step()
        yield


@method(classes=True, tune={"lr": ADAM, "share": SHARE})
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
    Paper: Chundawat 2023 (arXiv 2205.08096).
    Code: vikram2000b/bad-teaching-unlearning, `blindspot_unlearner` in unlearn.py: equal to 2e-16
    with Adam's eps scaled by 1 / (10 T²), to 7e-5 as it is.
    Departures: the loss is not divided by the number of classes and multiplied by T², which Adam
    feels in its eps alone.
    Defaults: Adam 1e-4, 1 epoch, 30 % of R, T 1, batch 256 as in its code.
    Costs: epochs * (F + share * R).
    """
    competent = model.clone().eval().requires_grad_(False)
    random = model.clone().eval().requires_grad_(False)
    random.load_states(model.fresh_states())
    some = round(share * len(retain))
    forgotten = forgotten_by(forget)
    both = together(forget, retain, some)
    optimizer = descent.optimizer_for(model, lr)
    for _ in descent.epochs(optimizer, epochs):
        for x, point in both.batches(batch_size):
            of_f = forgotten(point).unsqueeze(-1)
            target = torch.where(of_f, random(x), competent(x))
            optimizer.zero_grad()
            kl(target, model(x), temperature).backward()
            optimizer.step()
        forget.seen += len(forget)
        retain.seen += some
        yield


@method(classes=True)
def delete(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-4,
    epochs: int = 20,
    batch_size: int = 128,
    momentum: float = 0.9,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """DELETE: min KL(f0 without its class y || f) on F.

    The target is softmax of f0(x) with -1e10 in the place of the logit of the label y, so that the
    other classes keep their ratios; f0 is the original in eval mode, f is in train mode.
    Paper: Zhou 2025 (arXiv 2503.23751).
    Code: shaaaaron/DELETE, `delete` in method/delete.py: equal to 2e-16.
    Departures: none.
    Defaults: lr 1e-4, 20 epochs, batch 128 as in its config/cifar10_resnet18.yaml; momentum .9 and
    no weight decay as in `delete`.
    Costs: epochs * F.
    Sees: forget.
    Tried with: epochs 4.
    """
    f0 = model.clone().eval().requires_grad_(False)
    optimizer = descent.optimizer_for(model, lr, momentum)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            target = f0(x).scatter(-1, y.unsqueeze(-1), -1e10)  # -inf would make 0 · ∞ in KL
            optimizer.zero_grad()
            kl(target, model(x)).backward()
            optimizer.step()
        yield


def forgotten_by(forget: Points) -> Callable[[Tensor], Tensor]:
    """Of train points [M, B], by number: whether each is in the F of its member, [M, B]."""
    rows = forget.by_member
    f = torch.zeros(len(rows), len(forget.y), dtype=torch.bool).scatter_(1, rows, True)
    f = f.to(forget.y.device)
    return lambda points: f.gather(1, points)


def together(forget: Points, retain: Points, some: int, repeats: int = 1) -> Points:
    """F, so often, and `some` points of R drawn for each member; y is the number of the point."""
    rows = torch.cat([forget.by_member.repeat(1, repeats), retain.drawn(some).indices], 1)
    numbers = torch.arange(len(forget.y), device=forget.y.device)
    return Points(forget.x, numbers, rows, forget.generators, forget.prepare)
