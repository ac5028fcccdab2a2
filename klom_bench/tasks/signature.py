"""What a model does, in a few numbers: another forward pass, or other layers, are noticed by it."""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from klom_bench.ensemble.dropout import seeded_before_each_pass, uniform
from klom_bench.ensemble.ensemble import Architecture, new_model
from klom_bench.ensemble.inputs import Inputs, call, each
from klom_bench.ensemble.randomness import alone_with_randomness

POINTS = 4
STIR = 0.05
ALIKE, ALIKE_IN_SINGLE = 1e-3, 0.05
"""Logits and gradients that differ by less, beside their mean size, differ by rounding: in double
precision by some 1e-13, with BatchNorm over so few points in 30 layers by 1e-7 (measured); the
second where a model cannot be computed so."""
START = 0.02
"""Means and deviations of initial weights, beside their size: the same draws on any machine."""


@dataclass(frozen=True)
class Signature:
    """Of a model with weights that are known everywhere, in train mode, on the first train points.

    layers: torch's layers and what others say of themselves, by name. start: mean and standard
    deviation of the initial weights, by name. logits: [points, classes], None where they are not
    the same twice; gradients: norm of that of a sum of these logits, by name. draws: what draws
    from torch's global generator, which is set before each pass then. unseeded: what draws random
    numbers from no member's stream, in words. repeats_in_eval: whether the same weights say
    the same twice.
    """

    layers: Mapping[str, str]
    start: Mapping[str, tuple[float, float]]
    logits: Tensor | None
    gradients: Mapping[str, float]
    draws: tuple[str, ...]
    unseeded: tuple[str, ...]
    repeats_in_eval: bool = True

    @cached_property
    def as_json(self) -> dict[str, Any]:
        """Plain values; null for what is not finite."""
        rows = () if self.logits is None else self.logits
        return {
            "torch": str(torch.__version__),
            "layers": dict(self.layers),
            "start": {name: [_short(v) for v in values] for name, values in self.start.items()},
            "logits": [[_short(float(v)) for v in row] for row in rows] or None,
            "gradients": {name: _short(v) for name, v in self.gradients.items()},
            "single_precision": self.logits is not None and self.logits.dtype != torch.float64,
        }


def _short(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class _Pass:
    logits: Tensor
    gradients: dict[str, float]
    drawing: list[str]


def signature_of(architecture: Architecture, x: Inputs) -> Signature:
    """The signature of an architecture; x [n, ...] are inputs as models see them."""
    try:
        x = each(lambda t: t[:POINTS], x)
        run = partial(_pass, architecture, x, torch.float64)
        first = run(True)
    except Exception:  # it may insist on float32: what else is wrong shows there, too
        run = partial(_pass, architecture, x, torch.float32)
        first = run(True)
    same = _same(first.logits, run(True).logits)
    unseeded = []
    if not same:
        unseeded = ["the model draws from NumPy, random or a generator of its own"]
    repeats = _same(run(False).logits, run(False, seed=1).logits)
    if not repeats:
        unseeded.append("the model draws random numbers in eval mode, too")
    fresh = new_model(architecture)
    weights = {name: p.detach().double() for name, p in fresh.named_parameters()}
    start = {
        name: (float(p.mean()), float(p.std(correction=0)))
        for name, p in weights.items()
        if not p.is_complex()
    }
    return Signature(
        layers=_layers(fresh),
        start=start,
        logits=first.logits if same else None,
        gradients=first.gradients if same else {},
        draws=tuple(first.drawing),
        unseeded=tuple(unseeded),
        repeats_in_eval=repeats,
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def _pass(
    architecture: Architecture, x: Inputs, dtype: torch.dtype, training: bool, seed: int = 0
) -> _Pass:
    """One pass of a model of known weights, and what drew from torch's generator meanwhile."""
    model = new_model(architecture).to(dtype)
    for name, p in model.named_parameters():
        if p.is_floating_point():
            p.data = _known(name, p.data)
    seeded_before_each_pass(model, torch.Generator().manual_seed(0))
    drawing: list[str] = []
    for name, module in model.named_modules():
        _watch(name, module, drawing)
    with alone_with_randomness(seed), torch.set_grad_enabled(training):
        seen = each(lambda t: t.to(dtype) if t.is_floating_point() else t, x)
        z: Tensor = call(model.train(training), seen)
    gradients = {}
    if training and z.requires_grad:
        (z * uniform(torch.tensor(2), z.shape)).nan_to_num(0, 0, 0).sum().backward()
        for name, p in model.named_parameters():
            gradients[name] = float(p.grad.norm()) if p.grad is not None else 0.0
    return _Pass(z.detach().reshape(len(z), -1), gradients, drawing)


def _known(name: str, p: Tensor) -> Any:
    """Weights in the place of initial ones: the same bits whatever draws and rounds those.

    They have the size that initial weights usually have; what is constant at the start stays near
    it, and what is positive stays so.
    """
    noise = uniform(torch.tensor(zlib.crc32(name.encode())), p.shape).to(p.dtype) * 2 - 1
    first = p.flatten()[:1]
    if bool((p == first).all()):
        return first * (1 + STIR * noise) if bool(first) else STIR * noise
    if bool((p > 0).all()):
        return noise.abs() + STIR
    return noise * (3 / max(1, p[0].numel())) ** 0.5


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
    lines = _layers_changed(then, now)
    if lines and then.get("torch") == now.get("torch"):
        return lines
    alike = ALIKE_IN_SINGLE if then.get("single_precision") else ALIKE
    if not _alike(then.get("logits"), now["logits"], alike):
        return lines or (
            "the same weights give other logits in train mode: its forward pass or `prepare` "
            "changed"
        )
    a, b = (list(of.get("gradients", {}).values()) for of in (then, now))
    if not _alike([sorted(a, key=_size)], [sorted(b, key=_size)], 10 * alike):
        return lines or (
            "the same weights have other gradients: what is trained of it changed (detach, "
            "requires_grad)"
        )
    a, b = (sorted(of.get("start", {}).values(), key=str) for of in (then, now))
    if len(a) == len(b) and not all(map(_starts_alike, a, b)):
        return lines or "its initial weights are drawn otherwise"
    return None


def _size(value: float | None) -> float:
    return -1.0 if value is None else value


def _starts_alike(a: Sequence[float | None], b: Sequence[float | None]) -> bool:
    one, two = ([_size(v) for v in of] for of in (a, b))
    size = max(map(abs, two), default=0.0)
    return all(abs(x - y) <= START * size for x, y in zip(one, two, strict=True))


def _alike(a: Any, b: Any, alike: float) -> bool:
    """Whether rows of numbers differ by rounding alone; nothing can be said of none."""
    if not a or not b:
        return True
    one, two = _as_tensor(a), _as_tensor(b)
    if one.shape != two.shape or not torch.equal(one.isfinite(), two.isfinite()):
        return False
    finite = two.isfinite()
    differ, size = (one - two)[finite].abs(), two[finite].abs()
    return not len(differ) or bool(differ.max() <= alike * size.mean())


def _as_tensor(rows: Sequence[Sequence[float | None]]) -> Tensor:
    values = [[math.nan if v is None else v for v in row] for row in rows]
    return torch.tensor(values, dtype=torch.float64)


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
