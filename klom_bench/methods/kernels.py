"""Methods that alter the kernels of conv layers and repair the damage on R."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import Ensemble
from klom_bench.ensemble.gradient import slopes_of
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

    Paper: Cadet 2024 (arXiv 2410.01276), which reports the NeurIPS 2023 challenge's 5th place.
    Code: xcadet/deepunlearn, `KGLTop5` in munl/unlearning/kgltop5.py: equal to 8.9e-16.
    Departures: none; the submission itself was not seen.
    Defaults: lr 1e-3 on a cosine, 3 epochs, batch 64, momentum .9, weight decay 5e-4 as there.
    Costs: epochs * R.
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
    descent: Descent = Descent(schedule="ramp"),
) -> Iterator[None]:
    """MSG: draw anew the share of each conv layer with the smallest |g_R' - g_F|, then min L_R.

    Masked small gradients. g are sums of the gradients of batches, in train mode; R' are |F| points
    of R, drawn once. New weights are normal with variance 2 / fan_out. While fine-tuning, gradients
    of the other conv weights are multiplied by `slow`, and lr rises to the middle epoch and falls.
    Paper: Cadet 2024 (arXiv 2410.01276), which reports the NeurIPS 2023 challenge's 2nd place.
    Code: xcadet/deepunlearn, `KGLTop2.unlearn` in munl/unlearning/kgltop2.py: equal to 7e-10
    (its .1 is rounded to single precision).
    Departures: none; the submission itself was not seen.
    Defaults: share .3, slow .1, lr 1e-3, 5 epochs, momentum .9, weight decay 5e-4, batch 64 as
    there.
    Costs: F + min(F, R) + epochs * R.
    Tried with: epochs 3.
    """
    weights = kernels(model)
    some = retain.drawn(min(len(forget), len(retain)))
    of_r, of_f = (summed(model, p, [*weights.values()], batch_size) for p in (some, forget))
    retain.seen += len(some)
    hooks = []
    for kernel, r, f in zip(weights.values(), of_r, of_f, strict=True):
        mask = least(r - f, share)
        out, _, *area = kernel.shape[1:]
        anew = math.sqrt(2 / (out * math.prod(area))) * model.noise_like(kernel)
        with torch.no_grad():
            kernel.copy_(torch.where(mask, anew, kernel))
        rate = torch.where(mask, 1.0, slow)
        hooks.append(kernel.register_hook(lambda g, rate=rate: g * rate))
    try:
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
    finally:
        for hook in hooks:
            hook.remove()


def summed(
    model: Ensemble, points: Points, parameters: list[Tensor], batch_size: int
) -> list[Tensor]:
    """Sum over batches of the gradient of a batch's mean loss: a tensor a parameter [M, ...]."""
    total = [torch.zeros_like(p) for p in parameters]
    for x, y in points.batches(batch_size):
        found = slopes_of(model.loss(x, y), parameters)
        total = [t + g for t, g in zip(total, found, strict=True)]
    return total


def least(values: Tensor, share: float) -> Tensor:
    """A mask [M, ...]: the share of a member's entries with the smallest absolute values."""
    sizes = values.abs().flatten(1)
    smallest = sizes.topk(round(share * sizes.shape[1]), 1, largest=False).indices
    mask = torch.zeros_like(sizes, dtype=torch.bool).scatter(1, smallest, True)
    return mask.view_as(values)
