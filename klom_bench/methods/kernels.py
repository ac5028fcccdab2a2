"""Methods that alter the kernels of conv layers and repair the damage on R."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.gradient import gradient
from klom_bench.ensemble.per_member import per_member
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods.descent import Descent
from klom_bench.methods.finetuning import finetune
from klom_bench.methods.method import method
from klom_bench.methods.ranges import SHARE, Range


def kernels(model: Ensemble) -> dict[str, nn.Parameter]:
    """Weights of the conv layers [M, out, in, H, W], by name; KlomError where there are none."""
    found = {
        f"{name}.weight": module.weight
        for name, module in model.network.named_modules()
        if isinstance(module, nn.Conv2d) and isinstance(module.weight, nn.Parameter)
    }
    if not found:
        raise KlomError("it needs conv layers, and the network has none")
    return found


@method(conv=True)
def ct(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-3,
    epochs: int = 3,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(schedule="cosine"),
) -> Iterator[None]:
    """Convolution transpose: swap height and width of every conv kernel, then min L_R.

    Source: NeurIPS 2023 unlearning challenge, 5th place. Defaults: lr 1e-3 on a cosine, 3 epochs,
    batch 64 as there; momentum and weight decay as `msg`.
    Sees: retain.
    """
    with torch.no_grad():
        for name, kernel in kernels(model).items():
            if kernel.shape[-1] != kernel.shape[-2]:
                size = f"{kernel.shape[-2]} x {kernel.shape[-1]}"
                raise KlomError(
                    f"ct transposes kernels, and {name} is {size}: it needs square ones"
                )
            kernel.copy_(kernel.mT.clone())
    yield from finetune(
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


@method(conv=True, tune={"share": SHARE, "slow": Range(0.01, 1.0)})
def msg(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    share: float = 0.3,
    slow: float = 0.1,
    lr: float = 1e-3,
    epochs: int = 5,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """MSG: draw anew conv weights with the smallest |∇(L_R - L_F)|, then min L_R.

    Masked small gradients. The share is taken over all conv weights of a model, gradients in eval
    mode; while fine-tuning, gradients of the other conv weights are multiplied by `slow`.
    Source: NeurIPS 2023 unlearning challenge, 2nd place. Defaults: share .3, slow .1, lr 1e-3,
    5 epochs, momentum .9, weight decay 5e-4, batch 64 as there.
    """
    weights = kernels(model)
    of_r, of_f = (gradient(model, p, [*weights.values()], batch_size) for p in (retain, forget))
    small = least([r - f for r, f in zip(of_r, of_f, strict=True)], share)
    fresh = model.fresh_states()
    hooks = []
    for (name, kernel), mask in zip(weights.items(), small, strict=True):
        anew = torch.stack([state[name] for state in fresh]).to(kernel)
        with torch.no_grad():
            kernel.copy_(torch.where(mask, anew, kernel))
        rate = torch.where(mask, 1.0, slow)
        hooks.append(kernel.register_hook(lambda g, rate=rate: g * rate))
    yield from finetune(
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
    for hook in hooks:
        hook.remove()


def least(values: list[Tensor], share: float) -> list[Tensor]:
    """Masks [M, ...]: the share of a member's entries with the smallest absolute values."""
    sizes = torch.cat([v.abs().flatten(1) for v in values], 1)
    count = max(1, round(share * sizes.shape[1]))
    most = sizes.kthvalue(count, 1).values
    return [v.abs() <= per_member(most, v) for v in values]
