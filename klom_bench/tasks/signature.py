"""What a model does, in a few numbers: another forward pass, or other layers, are noticed by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from klom_bench.ensemble.dropout import seeded_before_each_pass
from klom_bench.ensemble.ensemble import alone_with_randomness, new_model

POINTS = 4
ALIKE = 1e-3
"""Logits that differ by less, beside their size, differ by rounding: about 1e-6 (measured)."""


@dataclass(frozen=True)
class Signature:
    """Of a fresh model of fixed seed, in train mode, on the first train points.

    layers: the modules in torch's words. logits: [points, classes], None where they are not the
    same twice. unseeded: what draws random numbers from no member's stream.
    """

    layers: tuple[str, ...]
    logits: Tensor | None
    unseeded: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        rows = () if self.logits is None else self.logits
        logits = [[float(f"{v:.7g}") for v in row] for row in rows]
        return {"layers": list(self.layers), "logits": logits or None}


def signature_of(architecture: Any, x: Tensor) -> Signature:
    """The signature of an architecture; x [n, ...] are inputs as models see them."""
    first, unseeded = _train_mode_logits(architecture, x[:POINTS])
    again, _ = _train_mode_logits(architecture, x[:POINTS])
    same = torch.equal(first, again)
    if not same and not unseeded:
        unseeded = ["the model draws from NumPy, random or a generator of its own"]
    layers = tuple(str(new_model(architecture)).splitlines())
    return Signature(layers, first if same else None, tuple(unseeded))


def _train_mode_logits(architecture: Any, x: Tensor) -> tuple[Tensor, list[str]]:
    model = new_model(architecture)
    seeded_before_each_pass(model, torch.Generator().manual_seed(0))
    drawing: list[str] = []
    for name, module in model.named_modules():
        _watch(name, module, drawing)
    with alone_with_randomness(0), torch.no_grad():
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
    """What changed between two signatures as JSON, in words; None where nothing did."""
    a, b = then.get("logits"), now.get("logits")
    lines = layers_changed(then, now)
    if a is None or b is None:
        return lines
    try:
        one, two = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    except (TypeError, ValueError):
        return "its signature in manifest.json is damaged"
    if one.shape != two.shape:
        return lines or f"models gave {one.shape[-1]} logits, and give {two.shape[-1]} now"
    size = float(two.abs().mean())
    if float((one - two).abs().max()) <= ALIKE * max(size, 1e-6):
        return None
    return lines or "a fresh model computes other logits in train mode"


def layers_changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first layers that differ, `ReLU() -> GELU(approximate='none')`."""
    a, b = (list(of.get("layers", ())) for of in (then, now))
    if not a or a == b:
        return None
    pairs = [(x.strip(), y.strip()) for x, y in zip(a, b, strict=False) if x != y]
    shown = "; ".join(f"{x} there, {y} now" for x, y in pairs[:3]) or "other layers"
    return f"the layers: {shown}" + ("; ..." if len(pairs) > 3 else "")
