"""Running a network whose parameters are stacked over members."""

from functools import singledispatch

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from klom_bench.ensemble.dropout import OwnStream, active, own_streams, start_pass

LARGE = 1_000_000
"""Models with as many parameters fill a device one by one.

Stacking ResNet-9 (2.3 million) through vmap ran at .4 to .6 of the speed of one after the other,
and a CNN of 30,000 at 1.6 times (measured on two cores).
"""


def one_by_one(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module with stacked parameters to x [M, B, ...], each member as if it were alone."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    states = zip(*(value.unbind() for value in named.values()), strict=True)
    if x.ndim == 5:  # images: cuDNN's and oneDNN's fastest layout
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    layers, outputs = own_streams(module), []
    for state, one in zip(states, x, strict=True):
        start_pass(layers)
        outputs.append(functional_call(module, dict(zip(named, state, strict=True)), (one,)))
    return torch.stack(outputs)


def forward(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module with stacked parameters to x [M, B, ...], by the rule for its class.

    A rule is for the class and for those derived from it that keep its `forward`.
    """
    kind = next(c for c in type(module).__mro__ if c in by_rule.registry)
    rule = by_rule.registry[kind if is_plain(module, kind) else object]
    found: Tensor = rule(module, x)
    return found


def is_plain(module: nn.Module, kind: type) -> bool:
    """Whether a module is one of a class and computes what that class computes.

    Weights that are computed from others (parametrizations) make another function.
    """
    return (
        isinstance(module, kind)
        and type(module).forward is getattr(kind, "forward", None)
        and (kind is not nn.Linear or "weight" in module._parameters)
    )


@singledispatch
def by_rule(module: nn.Module, x: Tensor) -> Tensor:
    """Without parameters and buffers the members are one long batch.

    Anything else that has no rule of its own below goes through vmap: right for every module, fast
    for none.
    """
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if not tensors:
        together: Tensor = module(x.flatten(0, 1))
        return together.view(*x.shape[:2], *together.shape[1:])

    def one(state: dict[str, Tensor], xs: Tensor) -> Tensor:
        logits: Tensor = functional_call(module, state, (xs,))
        return logits

    stacked: Tensor = vmap(one, randomness="different")(tensors, x)
    return stacked


@by_rule.register
def _(module: nn.Sequential, x: Tensor) -> Tensor:
    for layer in module:
        x = forward(layer, x)
    return x


@by_rule.register
def _(module: OwnStream, x: Tensor) -> Tensor:
    if not active([module]):
        return x
    dropped: Tensor = vmap(lambda seed, xs: functional_call(module, {"seed": seed}, (xs,)))(
        module.seed, x
    )
    return dropped


@by_rule.register
def _(module: nn.Linear, x: Tensor) -> Tensor:
    if x.ndim != 3:  # of tokens, as between layers of a language model
        apart: Tensor = by_rule.registry[object](module, x)
        return apart
    odd = x.shape[1] % 2
    if odd:  # MKL computes unaligned slices by another path: members would depend on packing
        x = nn.functional.pad(x, (0, 0, 0, 1))
    y = torch.bmm(x, module.weight.mT)
    if module.bias is not None:
        y += module.bias.unsqueeze(1)
    return y[:, :-1] if odd else y
