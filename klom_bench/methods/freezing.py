"""Methods that keep all but the last layers as they are."""

from collections.abc import Iterator

import torch
from torch import nn

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods.descent import Descent
from klom_bench.methods.finetuning import finetune
from klom_bench.methods.method import method
from klom_bench.methods.ranges import Range


def last_blocks(network: nn.Module, k: int) -> list[str]:
    """Names of the last k children of a network that have parameters."""
    blocks = [name for name, child in network.named_children() if [*child.parameters()]]
    if not 1 <= k <= len(blocks):
        raise KlomError(f"k = {k}, but the network has {len(blocks)} blocks: {', '.join(blocks)}")
    return blocks[-k:]


@method(tune={"k": Range(1, 2, whole=True)})
def cf_k(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    k: int = 1,
    lr: float = 0.01,
    epochs: int = 10,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Catastrophic forgetting of the last k blocks: min L_R over these, all others frozen.

    Frozen blocks keep their BatchNorm statistics, too.
    Source: Goel 2022 (arXiv 2201.06640), CF-k. Defaults: k 1, lr .01, 10 epochs as in public code,
    batch, momentum and weight decay as `finetune`.
    Trains: last k.
    Sees: retain.
    """
    last = last_blocks(model.network, k)
    for name, block in model.network.named_children():
        if name not in last:
            block.eval().requires_grad_(False)
    yield from finetune(  # SGD passes over what has no gradient
        model,
        forget,
        retain,
        lr=lr,
        epochs=epochs,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        descent=descent,
    )


@method(
    tune={"k": Range(1, 2, whole=True), "lr": Range(0.01, 0.3), "epochs": Range(5, 10, whole=True)}
)
def eu_k(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    k: int = 1,
    lr: float = 0.01,
    epochs: int = 20,
    batch_size: int = 256,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Exact unlearning of the last k blocks: these anew, then min L_R over them.

    Every parameter and buffer of a block is drawn anew, each member's from its own stream, whether
    or not its layers can reset themselves.
    Source: Goel 2022 (arXiv 2201.06640), EU-k. Defaults: as `cf_k`, and twice its epochs (public
    code trains "longer").
    Trains: last k.
    Resets: last k.
    Sees: retain.
    """
    fresh = model.fresh_states()
    last = last_blocks(model.network, k)
    with torch.no_grad():
        for name, value in model.network.state_dict().items():
            if name.partition(".")[0] in last:
                value.copy_(torch.stack([state[name] for state in fresh]))
    yield from cf_k(
        model,
        forget,
        retain,
        k=k,
        lr=lr,
        epochs=epochs,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        descent=descent,
    )
