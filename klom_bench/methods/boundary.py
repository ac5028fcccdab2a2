"""Methods that move the decision boundary to where F lies."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from klom_bench.ensemble.ensemble import Ensemble, Prepare, evaluating
from klom_bench.ensemble.inputs import Inputs, at, count
from klom_bench.ensemble.losses import cross_entropy
from klom_bench.ensemble.points import Points
from klom_bench.errors import KlomError
from klom_bench.methods.descent import Descent
from klom_bench.methods.method import method
from klom_bench.methods.ranges import ADAM, Choice, Range


@method(
    classes=True,
    moves_inputs=True,
    tune={"bound": Range(0.01, 2.0), "masked": Choice((False, True))},
)
def boundary_shrink(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    bound: float = 0.1,
    masked: bool = False,
    lr: float = 1e-5,
    epochs: int = 10,
    batch_size: int = 64,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Boundary shrink: cross-entropy on F with the class as label that lies a step of FGSM away.

    That class is argmax_c f0(x + bound · sign ∇_x ℓ(f0(x), y)), f0 the original, in eval mode. Of
    images stored as uint8 and scaled pixel by pixel the bound is in pixels from 0 to 1, and the
    result is clamped to these and rounded to 1/255; else it is in units of the model's input. A
    small bound leaves most of F its own class, towards which f then descends; `masked` takes the
    nearest wrong one, c ≠ y.
    Paper: Chen 2023 (arXiv 2303.11570).
    Code: TY-LEE-KR/Boundary-Unlearning-Code, `boundary_shrink` in boundary_unlearning.py: equal to
    0. OPTML-Group/Unlearn-Saliency, `boundary_shrink` in boundary_sh.py has the same rule.
    Departures: the unit of the bound where points are not stored as uint8; `masked` is ours.
    Defaults: bound .1, 10 epochs, lr 1e-5, momentum .9, batch 64, no weight decay as in the first.
    Costs: epochs * F.
    Sees: forget.
    """
    f0 = model.clone().eval().requires_grad_(False)
    pixels = range_of_pixels(forget.x, forget.prepare, forget.y.device)
    optimizer = descent.optimizer_for(model, lr, momentum, weight_decay)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            label = class_beyond(f0, x, y, bound, pixels, masked)
            optimizer.zero_grad()
            cross_entropy(model(x), label).backward()
            optimizer.step()
        yield


Pixels = tuple[Tensor, Tensor]
"""What black and white look like to a model."""


def range_of_pixels(x: Inputs, prepare: Prepare, device: torch.device) -> Pixels | None:
    """Of images stored as uint8 that are scaled pixel by pixel; None of other points."""
    some = at(x, torch.arange(min(8, count(x))), device)
    if not isinstance(some, Tensor) or some.dtype != torch.uint8:
        return None
    black, white = (prepare(torch.full_like(some, shade)) for shade in (0, 255))
    if black.shape != some.shape or not torch.allclose(
        prepare(some), black + some / 255 * (white - black), rtol=1e-4, atol=1e-4
    ):
        return None
    return black[:1], white[:1]


def class_beyond(
    f0: Ensemble, x: Tensor, y: Tensor, bound: float, pixels: Pixels | None, masked: bool
) -> Tensor:
    """The class [M, B] that a step of FGSM leads to."""
    x = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(cross_entropy(f0(x), y), x)
    with torch.no_grad():
        if pixels is None:
            z = f0(x + bound * slope.sign())
        else:
            black, white = pixels
            span = white - black
            shade = torch.where(span == 0, 0.0, (x - black) / span)
            shade = shade + bound * slope.sign() * span.sign()
            shade = (shade.clamp(0, 1) * 255).round() / 255
            z = f0(black + shade * span)
        if masked:
            z = z.scatter(-1, y.unsqueeze(-1), -torch.inf)
        label: Tensor = z.argmax(-1)
        return label


@method(classes=True, tune={"lr": ADAM})
def boundary_expand(
    model: Ensemble,
    forget: Points,
    retain: Points,
    *,
    lr: float = 1e-5,
    epochs: int = 10,
    batch_size: int = 64,
    momentum: float = 0.9,
    descent: Descent = Descent(),
) -> Iterator[None]:
    """Boundary expanding: cross-entropy on F with a class more, which is then dropped.

    The last layer gets a row for class C, its weights √(2 / (d + C + 1)) ε for d features, its bias
    0; all parameters are trained, in train mode, and after each epoch the model gets them without
    that row.
    Paper: Chen 2023 (arXiv 2303.11570).
    Code: TY-LEE-KR/Boundary-Unlearning-Code, `boundary_expanding` in boundary_unlearning.py:
    equal to 9e-16 where that is given a model in train mode.
    Departures: train mode from the first batch on (code: the first batch in the mode in which the
    original is given, eval).
    Defaults: lr 1e-5, momentum .9, no weight decay, 10 epochs as in that function; batch 64 as in
    its main.py.
    Costs: epochs * F.
    Sees: forget.
    """
    wide, weight = widened(model)
    classes = weight.shape[1] - 1
    x, _ = forget.at(forget.by_member[:, :2])
    if classes_of(wide, x) != classes + 1:
        raise KlomError(
            "boundary_expand widens the last nn.Linear by a class, and this network's logits do "
            "not get wider with it: it needs a network that ends in nn.Linear"
        )
    optimizer = descent.optimizer_for(wide, lr, momentum)
    for _ in descent.epochs(optimizer, epochs):
        for x, y in forget.batches(batch_size):
            optimizer.zero_grad()
            cross_entropy(wide(x), torch.full_like(y, classes)).backward()
            optimizer.step()
        narrow(wide, model)
        yield


def widened(model: Ensemble) -> tuple[Ensemble, Tensor]:
    """A copy with a class more, and the weights [M, C + 1, d] of its last nn.Linear."""
    wide = model.clone()
    found = [layer for layer in wide.network.modules() if isinstance(layer, nn.Linear)]
    if not found:
        raise KlomError("boundary_expand needs an nn.Linear as the last layer: there is none")
    weight, bias = found[-1].weight.detach(), found[-1].bias
    _, classes, features = weight.shape
    row = model.noise_like(weight[:, :1]) * (2 / (features + classes + 1)) ** 0.5
    found[-1].weight = nn.Parameter(torch.cat([weight, row], 1))
    if bias is not None:
        found[-1].bias = nn.Parameter(nn.functional.pad(bias.detach(), (0, 1)))
    return wide, found[-1].weight


def classes_of(model: Ensemble, x: Inputs) -> int:
    """The width of the logits; 0 where layers do not fit together."""
    try:
        with evaluating(model):
            return int(model(x).shape[-1])
    except Exception:  # of any kind: the network is not ours
        return 0


@torch.no_grad()
def narrow(wide: Ensemble, model: Ensemble) -> None:
    """Copy parameters and buffers, without the class that is too many."""
    wider = wide.state_dict()
    for name, value in model.state_dict().items():
        value.copy_(wider[name][:, : value.shape[1]] if value.ndim > 1 else wider[name])
