"""Running a network whose parameters are stacked over members."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from klom_bench.ensemble.dropout import OwnStream, active, own_streams, start_pass
from klom_bench.ensemble.inputs import Inputs, call, each
from klom_bench.ensemble.randomness import alone_with_randomness

LARGE = 1_000_000
"""Models with as many parameters fill a device one by one.

Stacking ResNet-9 (2.3 million) through vmap ran at .4 to .6 of the speed of one after the other,
and a CNN of 30,000 at 1.6 times (measured on two cores).
"""


@dataclass(frozen=True)
class Way:
    """How the members of an ensemble are computed.

    stacked: side by side, by rules for layers and vmap; else one after the other. draws: forward
    passes draw from torch's global generator, as dropout in attention and recurrent layers does;
    then each is set to a number of its member's stream before it. mixed: on a GPU passes in train
    mode are in bfloat16, those of methods as those of training, so that their times compare.
    """

    stacked: bool = True
    draws: bool = False
    mixed: bool = False


SIDE_BY_SIDE = Way()


def without_fused_attention() -> None:
    """Attention by torch's plain formula, in this process: fused kernels have no second derivative
    and no rule for vmap, and which one is taken would depend on what is computed beside it."""
    for switch in ("flash", "mem_efficient", "cudnn"):
        getattr(torch.backends.cuda, f"enable_{switch}_sdp")(False)  # the CPU's, too


def one_by_one(module: nn.Module, x: Inputs, seeds: Sequence[int] = ()) -> Tensor:
    """Apply a module with stacked parameters to x [M, B, ...], each member as if it were alone.

    seeds: those of torch's global generator, one a member, where passes draw from it.
    """
    stacks = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    states = zip(*(value.unbind() for value in stacks.values()), strict=True)
    x = each(as_kernels_like_it, x)
    layers, outputs = own_streams(module), []
    for i, state in enumerate(states):
        start_pass(layers)
        mine = each(lambda t, i=i: t[i], x)
        draws = alone_with_randomness(seeds[i], state[0].device) if seeds else nullcontext()
        with draws:
            outputs.append(_called(module, dict(zip(stacks, state, strict=True)), mine))
    return torch.stack(outputs)


def as_kernels_like_it(x: Tensor) -> Tensor:
    """Images [M, B, C, H, W], or weights for them, in cuDNN's and oneDNN's fastest layout."""
    return x.movedim(2, -1).contiguous().movedim(-1, 2) if x.ndim == 5 else x


def _called(module: nn.Module, state: dict[str, Tensor], x: Inputs) -> Tensor:
    """The logits of x by a module with this state."""

    def model(*args: Any, **kwargs: Any) -> Any:
        return functional_call(module, state, args, kwargs)

    found: Tensor = call(model, x)
    return found


def forward(module: nn.Module, x: Inputs) -> Tensor:
    """Apply a module with stacked parameters to x [M, B, ...], by the rule for its class.

    A rule is for the class and for those derived from it that keep its `forward`, and for tensors.
    """
    if not isinstance(x, Tensor):
        return by_vmap(module, x)
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
    if any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
        return by_vmap(module, x)
    together: Tensor = call(module, x.flatten(0, 1))
    return together.view(*x.shape[:2], *together.shape[1:])


def by_vmap(module: nn.Module, x: Inputs) -> Tensor:
    """All members by torch's transformation of what one would do."""
    stacks = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    stacked: Tensor = vmap(lambda state, xs: _called(module, state, xs), randomness="different")(
        stacks, x
    )
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
    odd = x.shape[1] % 2 and x.device.type == "cpu"
    if odd:  # MKL computes unaligned slices by another path: members would depend on packing
        x = nn.functional.pad(x, (0, 0, 0, 1))
    y = torch.bmm(x, module.weight.mT)
    if module.bias is not None:
        y += module.bias.unsqueeze(1)
    return y[:, :-1] if odd else y
