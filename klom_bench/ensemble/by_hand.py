"""A step of SGD on networks of Linear and ReLU on a CPU, its gradient written out.

autograd spends more on a small network than the network does: by hand a step of 25 members of
`digits` takes half as long (measured), which is most of what a first run takes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from klom_bench.ensemble.ensemble import as_they_are
from klom_bench.ensemble.outputs import class_loss
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.stacked import is_plain
from klom_bench.ensemble.step import Step

ALIGNED = 4
"""Numbers in 16 bytes. MKL computes a slice that begins elsewhere by another path: a member's last
bits would depend on how many are before it."""
Take = Callable[[Tensor, Tensor | None, float], None]


@dataclass(frozen=True)
class Layer:
    """A Linear of all members, and the velocities of its weight [M, out, in] and bias [M, out]."""

    linear: nn.Linear
    relu: bool
    v_weight: Tensor
    v_bias: Tensor | None


def by_hand(step: Step) -> Take | None:
    """What takes this step by hand, or None where it would not be the same step."""
    recipe, points = step.recipe, step.points
    usual = (
        recipe.optimizer == "sgd"
        and not (recipe.class_weights or recipe.label_smoothing or recipe.max_norm)
        and not step.changes
        and step.model.outputs.loss is class_loss
        and step.model._stacked
        and points.prepare is as_they_are
        and not any((_global_optimizer_pre_hooks, _global_optimizer_post_hooks))
    )
    layers = layers_of(step.model.network) if usual else []
    batch = min(recipe.batch_size, len(points))
    if not (layers and _fit(points, layers) and _lie_well(layers, batch)):
        return None
    return ByHand(step, layers, batch)


class ByHand:
    """θ ← θ - η v with v ← μ v + ∇L + λ θ, for h₀ = x, hₖ = relu(hₖ₋₁ Wₖᵀ + bₖ), L the mean
    cross-entropy of softmax(h_last).

    What a step computes lies where that of the step before lay: a core's cache holds some of it.
    """

    def __init__(self, step: Step, layers: list[Layer], batch: int) -> None:
        self.points, self.recipe, self.layers = step.points, step.recipe, layers
        step.model.zero_grad()
        every = [layer.linear.weight for layer in layers]
        members, classes, _ = every[-1].shape
        self.hs = [torch.empty(members, batch, W.shape[2]) for W in every]
        # Not transposed: there two threads would compute other last bits than one (measured).
        self.z = torch.empty(members, batch, classes)
        self.deltas = [torch.empty_like(h) for h in self.hs[1:]]

    @torch.no_grad()
    def __call__(self, rows: Tensor, drawn: Tensor | None, lr: float) -> None:
        """As `Step`."""
        each, x = rows.reshape(-1), self.hs[0]
        torch.index_select(self.points.x, 0, each, out=x.view(len(each), -1))
        outs = [*self.hs[1:], self.z]
        for layer, h, out in zip(self.layers, self.hs, outs, strict=True):
            torch.bmm(h, layer.linear.weight.mT, out=out)
            if layer.linear.bias is not None:
                out += layer.linear.bias.unsqueeze(1)
            if layer.relu:
                out.relu_()
        # Classes before points: a softmax over few, neighbouring numbers takes twice as long.
        p, y = torch.softmax(self.z.mT.contiguous(), 1), self.points.y[rows]
        p.scatter_(1, y.unsqueeze(1), -1.0, reduce="add").div_(rows.shape[1])
        delta = p.mT  # ∂L/∂z of each point, and so on down
        for k in reversed(range(len(self.layers))):
            layer, h, below = self.layers[k], self.hs[k], delta
            W, b = layer.linear.weight, layer.linear.bias
            if k:  # by what autograd calls: masks take 20 times as long (measured)
                below = torch.bmm(delta, W, out=self.deltas[k - 1])
                torch.ops.aten.threshold_backward.grad_input(below, h, 0, grad_input=below)
            layer.v_weight.baddbmm_(delta.mT, h, beta=self.recipe.momentum)
            self._move(W, layer.v_weight, lr)
            if layer.v_bias is not None:
                layer.v_bias.mul_(self.recipe.momentum).add_(delta.sum(1))
                self._move(b, layer.v_bias, lr)
            delta = below

    def _move(self, p: Tensor, v: Tensor, lr: float) -> None:
        if self.recipe.weight_decay:
            v.add_(p, alpha=self.recipe.weight_decay)
        p.add_(v, alpha=-lr)


def layers_of(network: nn.Module) -> list[Layer]:
    """The layers of a Sequential of Linear, each followed by a ReLU but the last; else nothing.

    Nothing, too, where somebody listens to a layer or a gradient, where two layers share weights,
    and where some are frozen.
    """
    modules = [*network.modules()]
    heard = _has_any_global_hook() or any(map(_listened_to, modules))
    if heard or not is_plain(network, nn.Sequential):
        return []
    linears, relus = modules[1::2], modules[2::2]
    if len(relus) != len(linears) - 1 or not all(is_plain(m, nn.ReLU) for m in relus):
        return []
    layers = []
    for k, m in enumerate(linears):
        if not (isinstance(m, nn.Linear) and is_plain(m, nn.Linear)):
            return []
        v_bias = torch.zeros_like(m.bias) if m._parameters["bias"] is not None else None
        layers.append(Layer(m, k < len(relus), torch.zeros_like(m.weight), v_bias))
    parameters = [*network.parameters()]
    each_alone = len(parameters) == sum(1 + (layer.v_bias is not None) for layer in layers)
    trained = all(p.requires_grad and p.dtype == torch.float32 for p in parameters)
    on_cpu = all(p.device.type == "cpu" and p.is_contiguous() for p in parameters)
    return layers if each_alone and trained and on_cpu else []


def _listened_to(module: nn.Module) -> bool:
    of_module = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    of_parameters = (
        hooks
        for p in module.parameters(recurse=False)
        for hooks in (p._backward_hooks, p._post_accumulate_grad_hooks)
    )
    return any(of_module) or any(of_parameters)


def _fit(points: Points, layers: list[Layer]) -> bool:
    x, y, classes = points.x, points.y, layers[-1].linear.weight.shape[1]
    right = isinstance(x, Tensor) and x.ndim == 2 and x.dtype == torch.float32
    return right and y.dtype == torch.int64 and 0 <= int(y.min()) <= int(y.max()) < classes


def _lie_well(layers: list[Layer], batch: int) -> bool:
    widths = [layers[0].linear.weight.shape[2], *(la.linear.weight.shape[1] for la in layers)]
    places = [batch * w for w in widths] + [a * b for a, b in pairwise(widths)]
    return batch % 2 == 0 and all(n % ALIGNED == 0 for n in places)
