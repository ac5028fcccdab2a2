"""Methods that teach wrong labels for the forget set."""

from collections.abc import Iterator

import torch

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points


def random_label(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-3,
    epochs: int = 5,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
) -> Iterator[None]:
    """Random labels on F, true labels on R (amnesiac; Golatkar 2020, Graves 2021).

    Each epoch: cross-entropy on F with labels drawn anew among the wrong classes, then on R.
    Defaults: lr and epochs from the published ranges lr 1e-4 ... 1e-2, 3 to 10 epochs; momentum
    and weight decay as in training.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    for _ in range(epochs):
        for x, y in forget.batches(batch_size):
            z = model(x)
            classes = z.shape[-1]
            shift = [torch.randint(1, classes, y.shape[1:], generator=g) for g in model.generators]
            wrong = (y + torch.stack(shift).to(y.device)) % classes
            optimizer.zero_grad()
            cross_entropy(z, wrong).backward()
            optimizer.step()
        for x, y in retain.batches(batch_size):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        yield
