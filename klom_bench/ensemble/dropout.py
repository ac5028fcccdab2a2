"""Dropout whose masks come from the members' own streams.

torch's layers draw from one global generator, so that masks would depend on the pack, the worker
and the order in which members are computed, and no run could be repeated. Here every forward pass
draws one number from a member's stream, and an entry of a mask is a hash of that number and of its
place among all entries of the pass: the same on every device, under vmap, and whatever else is
computed beside it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from klom_bench.errors import KlomError

GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15, as all three in two's complement
MIX = (-0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
ALPHA = 1.7580993408473766  # of SELU times its scale; alpha dropout lets units fall to -ALPHA


def uniform(seed: Tensor, shape: Sequence[int], first: int = 0) -> Tensor:
    """float32 in [0, 1) of this shape from a seed, an int64 scalar; entries count from `first`.

    Source: Steele 2014 (SplitMix64), of which these are the 24 highest bits.
    """
    place = torch.arange(torch.Size(shape).numel(), device=seed.device) + first
    z = place * GOLDEN + seed  # int64 wraps round as unsigned numbers do
    for shift, factor in zip((30, 27), MIX, strict=True):
        z = (z ^ (z >> shift & (1 << 64 - shift) - 1)) * factor
    z = z ^ (z >> 31 & (1 << 33) - 1)
    return ((z >> 40 & (1 << 24) - 1).float() / (1 << 24)).view(torch.Size(shape))


class OwnStream(nn.Module):
    """What a dropout layer of torch becomes, beside its own class: p and mode are still torch's."""

    p: float
    seed: Tensor
    place: int
    drawn: int

    def forward(self, input: Tensor) -> Tensor:
        """As torch's layer of this kind, with a mask from the stream."""
        if not self.training or not self.p:
            return input
        whole = isinstance(self, nn.Dropout | nn.AlphaDropout)
        shape = input.shape if whole else _channels(input, self)
        if torch._C._current_graph_task_id() != -1:
            raise KlomError(
                "a dropout layer is computed again in the backward pass, as by "
                "torch.utils.checkpoint, where it would draw another mask: not yet"
            )
        kept = uniform(self.seed, shape, (self.place << 16 | self.drawn) << 30) >= self.p
        self.drawn += 1
        if isinstance(self, nn.AlphaDropout | nn.FeatureAlphaDropout):
            scale = ((1 - self.p) * (1 + self.p * ALPHA**2)) ** -0.5 if self.p < 1 else 0.0
            return (torch.where(kept, input, -ALPHA) + ALPHA * self.p) * scale
        return input * kept / (1 - self.p) if self.p < 1 else torch.zeros_like(input)


KINDS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
_OWN: dict[type, type] = {kind: type(kind.__name__, (OwnStream, kind), {}) for kind in KINDS}


def _channels(input: Tensor, layer: nn.Module) -> tuple[int, ...]:
    """One number a channel, for all of its entries."""
    unbatched = (isinstance(layer, nn.Dropout1d) and input.ndim == 2) or (
        isinstance(layer, nn.Dropout3d) and input.ndim == 4
    )
    kept = 1 if unbatched else 2
    return (*input.shape[:kept], *[1] * (input.ndim - kept))


def use_own_streams(network: nn.Module, members: int | None = None) -> list[OwnStream]:
    """Have the dropout layers of a network draw from seeds of their own; returns these layers.

    members: of a network with stacked parameters; its layers have a seed for each. Subclasses of
    torch's layers, and functions like F.dropout, are left as they are.
    """
    for module in network.modules():
        if type(module) in _OWN:
            module.__class__ = _OWN[type(module)]
            shape = () if members is None else (members,)
            module.register_buffer("seed", torch.zeros(shape, dtype=torch.int64), persistent=False)
    layers = own_streams(network)
    for place, layer in enumerate(layers):
        layer.place, layer.drawn = place, 0
    return layers


def own_streams(network: nn.Module) -> list[OwnStream]:
    """The layers of a network that draw from seeds of their own."""
    return [layer for layer in network.modules() if isinstance(layer, OwnStream)]


def draw_seed(generator: torch.Generator) -> int:
    """A seed from a member's stream."""
    return int(torch.randint(2**62, (), generator=generator))


def start_pass(layers: Sequence[OwnStream], seeds: Tensor | None = None) -> None:
    """A forward pass begins: of one model (seeds a scalar) or of all members (seeds [M])."""
    for layer in layers:
        layer.drawn = 0
        if seeds is not None:
            layer.seed = seeds.to(layer.seed.device)


def active(layers: Sequence[OwnStream]) -> bool:
    """Whether any of these layers would draw."""
    return any(layer.training and layer.p for layer in layers)


def seeded_before_each_pass(single: nn.Module, generator: torch.Generator) -> None:
    """Have the dropout layers of a single model draw from this stream, pass by pass."""

    def before(model: nn.Module, _: Any) -> None:
        if active(layers := own_streams(model)):  # those of a copy are its own
            start_pass(layers, torch.tensor(draw_seed(generator)))

    if use_own_streams(single):
        single.register_forward_pre_hook(before)
