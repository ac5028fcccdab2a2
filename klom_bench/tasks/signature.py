"""What a model does, in a few numbers: another forward pass, or other layers, are noticed by it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from klom_bench.ensemble.dropout import seeded_before_each_pass
from klom_bench.ensemble.ensemble import Architecture, alone_with_randomness, new_model

POINTS = 4
STIR = 0.05
"""Added to the initial weights, times normal noise."""
ALIKE = 1e-3
"""Logits that differ by less, beside their mean size, differ by rounding: about 1e-6 (measured)."""


@dataclass(frozen=True)
class Signature:
    """Of a fresh model of fixed seed, in train mode, on the first train points.

    layers: torch's layers and what others say of themselves, by name. logits: [points, classes],
    None where they are not the same twice. unseeded: what draws random numbers from no member's
    stream.
    """

    layers: Mapping[str, str]
    logits: Tensor | None
    unseeded: tuple[str, ...]

    @cached_property
    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = () if self.logits is None else self.logits
        logits = [[float(f"{v:.7g}") for v in row] for row in rows]
        return {
            "torch": str(torch.__version__),
            "layers": dict(self.layers),
            "logits": logits or None,
        }


def signature_of(architecture: Architecture, x: Tensor) -> Signature:
    """The signature of an architecture; x [n, ...] are inputs as models see them."""
    first, unseeded = _train_mode_logits(architecture, x[:POINTS])
    again, _ = _train_mode_logits(architecture, x[:POINTS])
    same = torch.equal(first, again)
    if not same and not unseeded:
        unseeded = ["the model draws from NumPy, random or a generator of its own"]
    return Signature(_layers(new_model(architecture)), first if same else None, tuple(unseeded))


def _layers(model: nn.Module) -> dict[str, str]:
    """`drop: Dropout(p=0.2, inplace=False)`; classes of one's own may have any name."""
    found = {}
    for name, module in model.named_modules():
        is_torchs = type(module).__module__.startswith("torch.")
        says = re.sub(r" at 0x[0-9a-f]+", "", module.extra_repr())
        if says or (is_torchs and not any(module.children())):
            kind = type(module).__name__ if is_torchs else ""
            found[name or "the model"] = f"{kind}({says})"
    return found


@torch.no_grad()
def _train_mode_logits(architecture: Architecture, x: Tensor) -> tuple[Tensor, list[str]]:
    model, g = new_model(architecture), torch.Generator().manual_seed(1)
    for p in model.parameters():  # heads may start at zero, and tell nothing then
        if p.is_floating_point():
            p.add_(torch.randn(p.shape, generator=g), alpha=STIR)
    seeded_before_each_pass(model, torch.Generator().manual_seed(0))
    drawing: list[str] = []
    for name, module in model.named_modules():
        _watch(name, module, drawing)
    with alone_with_randomness(0):
        z: Tensor = model.train()(x)
    return z.float(), drawing


def _watch(name: str, module: nn.Module, drawing: list[str]) -> None:
    """Note a module in whose forward pass torch's global generator moves on, by itself."""
    before: list[tuple[Tensor, int]] = []

    def enter(*_: Any) -> None:
        before.append((torch.get_rng_state(), len(drawing)))

    def leave(*_: Any) -> None:
        state, known = before.pop()
        if len(drawing) == known and not torch.equal(state, torch.get_rng_state()):
            drawing.append(f"{name or 'the model itself'} ({type(module).__name__})")

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave)


def difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """What changed between two signatures as JSON, in words; None where nothing did.

    Another torch may describe its layers otherwise: then only what they compute counts.
    """
    a, b = then.get("logits"), now.get("logits")
    lines = _layers_changed(then, now)
    if (a is None or b is None) or then.get("torch") == now.get("torch"):
        if lines:
            return lines
        if a is None or b is None:
            return None
    try:
        one, two = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    except (TypeError, ValueError):
        return "its signature in manifest.json is damaged"
    if one.shape != two.shape:
        return lines or f"models gave {one.shape[-1]} logits, and give {two.shape[-1]} now"
    if float((one - two).abs().max()) <= ALIKE * float(two.abs().mean()):
        return None
    return lines or (
        "a fresh model computes other logits in train mode: its forward pass, its initial weights "
        "or `prepare` changed"
    )


def _layers_changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """`act is ReLU() there, GELU(approximate='none') now`; a layer may have another name."""
    a, b = then.get("layers"), now["layers"]
    if not isinstance(a, dict) or sorted(map(str, a.values())) == sorted(b.values()):
        return None
    changed = [
        f"{name} is {a.get(name, 'nothing')} there, {b.get(name, 'nothing')} now"
        for name in dict.fromkeys((*b, *a))
        if a.get(name) != b.get(name)
    ]
    return f"the layers: {'; '.join(changed[:3])}" + ("; ..." if len(changed) > 3 else "")
