"""Methods that climb the loss of the forget set."""

from collections.abc import Iterator

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


@method()
def ga(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-2,
    epochs: int = 5,
    batch_size: int = 64,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Gradient ascent on the forget set: max L_F.

    Paper: Golatkar 2020 (arXiv 1911.04933), Thudi 2022 (arXiv 2109.13398).
    Code: RoyRin/data-unlearning-bench, `ascent_forget`: equal to 2.2e-16.
    Departures: none.
    Defaults: plain SGD, batch 64, lr and epochs from the middle of its grid lr {1e-5 ... 5e-2} x
    epochs {1, 3, 5, 7, 10}.
    Costs: epochs * F.
    Sees: forget.
    """
    optimizer = descent.optimizer_for(model, lr)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            optimizer.zero_grad()
            (-model.loss(x, y)).backward()
            optimizer.step()
        yield


@method(tune={"lr": Range(1e-4, 10.0), "ascent_epochs": Range(1, 5, whole=True)})
def gda(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-3,
    epochs: int = 5,
    ascent_epochs: int = 3,
    forget_batch_size: int = 64,
    batch_size: int = 64,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Ascent, then descent: each epoch max L_F (the first k epochs only), then min L_R.

    k = ascent_epochs.
    Paper: Georgiev 2024 (arXiv 2410.23232).
    Code: RoyRin/data-unlearning-bench, `ascent_descent`: equal to 4.4e-16.
    Departures: none.
    Defaults: plain SGD; lr, epochs, k and forget batch from its grid lr {5e-3, 1e-3, 5e-4, 5e-5},
    epochs {5, 7, 10}, k {3, 5}, forget batch {32, 64}.
    Costs: min(ascent_epochs, epochs) * F + epochs * R.
    """
    optimizer = descent.optimizer_for(model, lr)
    for epoch in descent.epochs(optimizer, epochs):
        if epoch < ascent_epochs:
            for x, y in forget.batches(forget_batch_size):
                optimizer.zero_grad()
                (-model.loss(x, y)).backward()
                optimizer.step()
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            model.loss(x, y).backward()
            optimizer.step()
        yield


@method(tune={"alpha": Range(0.5, 0.999, log=False)})
def neggrad_plus(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    alpha: float = 0.95,
    lr: float = 0.01,
    epochs: int = 10,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """NegGrad+: min α L_R - (1 - α) L_F, forget batches cycled.

    Paper: Kurmanji 2023 (arXiv 2302.09880).
    Code: meghdadk/SCRUB, `train_negrad` in thirdparty/repdistiller/helper/loops.py: equal to
    4.4e-16.
    Departures: each cycle over F is shuffled anew (there `itertools.cycle` repeats the first order,
    and starts over each epoch: 4 to 8 % of a step).
    Defaults: α .95, lr .01, 10 epochs, no weight decay as there; momentum .9 of xcadet/deepunlearn.
    Costs: epochs * R * (1 + F / (batch_size * ceil(F / batch_size))).
    """
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    forget_batches = forget.cycle(batch_size)
    for _ in descent.epochs(optimizer, epochs):
        for (x_r, y_r), (x_f, y_f) in zip(retain.batches(batch_size), forget_batches, strict=False):
            loss_r, loss_f = model.loss(x_r, y_r), model.loss(x_f, y_f)
            optimizer.zero_grad()
            (alpha * loss_r - (1 - alpha) * loss_f).backward()
            optimizer.step()
        yield
