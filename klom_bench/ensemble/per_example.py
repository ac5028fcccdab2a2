"""What each training example alone asks of the parameters."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap

from klom_bench.ensemble.ensemble import Ensemble, in_eval_mode
from klom_bench.ensemble.inputs import Inputs, call, each
from klom_bench.ensemble.points import Points
from klom_bench.ensemble.stacked import forward, is_plain

Slopes = Callable[[Tensor, Tensor], Tensor]
Size = Callable[[Tensor], Tensor]

BATCH = {"cpu": 16, "cuda": 512}
"""Of any network. On a CPU 64 took 1.6 times as long, 8 ten times (measured); on a GPU a batch is a
few hundred launches, however large it is."""
AT_A_TIME = {"cpu": 2**24, "cuda": 2**30}
"""Numbers of gradients held at a time."""


def mean_over_examples(model: Ensemble, points: Points, slopes: Slopes, size: Size) -> list[Tensor]:
    """Mean over the points of Σ_k size(Jᵀ d_k): a tensor a parameter [M, ...].

    J is the Jacobian of one example's logits z in the parameters, d = slopes(z, y) is of shape
    [K, ..., classes] for z [..., classes] and y [...]; size is elementwise with
    size(a b) = size(a) size(b), as the square or the absolute value. In eval mode.
    """
    linear = _is_of_linear_layers(model, points)
    kind = model.device.type
    of_batch, batch_size = (_of_linear_layers, 512) if linear else (_of_any_network, BATCH[kind])
    total = [torch.zeros_like(p) for p in model.parameters()]
    with in_eval_mode(model):
        for x, y in points.batches(batch_size):
            try:
                sums = of_batch(model, x, y, slopes, size)
            except Exception:  # whatever vmap says of what it cannot compute
                if of_batch is not _of_any_network:
                    raise
                of_batch = _one_after_the_other
                sums = of_batch(model, x, y, slopes, size)
            for t, found in zip(total, sums, strict=True):
                t += found
    return [t / len(points) for t in total]


def _is_of_linear_layers(model: Ensemble, points: Points) -> bool:
    """Whether it is a chain of linear layers, each once and all trained, of one vector a point."""
    network = model.network
    if not is_plain(network, nn.Sequential):
        return False
    layers = list(cast(nn.Sequential, network))
    parameters = [p for layer in layers for p in layer.parameters()]
    x, _ = points.at(points.by_member[:, :1])
    return (
        isinstance(x, Tensor)
        and x.ndim == 3
        and all(is_plain(layer, nn.Linear) or not layer.state_dict() for layer in layers)
        and not any(layer._buffers for layer in layers if isinstance(layer, nn.Linear))
        and len({*parameters}) == len(parameters)
    )


def _of_linear_layers(
    model: Ensemble, x: Inputs, y: Tensor, slopes: Slopes, size: Size
) -> list[Tensor]:
    """An example's gradient of a linear layer is δ aᵀ, so that sizes are size(δ) size(a)ᵀ.

    3 times as fast as `_of_any_network` where K is 1, 34 times where it is 10 (measured).
    """
    layers: list[tuple[nn.Module, Tensor, Tensor]] = []
    z = x
    # `children` would leave out layers that stand in it twice.
    for layer in cast(nn.Sequential, model.network):
        a, z = z, forward(layer, z)
        if isinstance(layer, nn.Linear):
            layers.append((layer, a.detach(), z))
            z = z.clone()  # the next layer may work in place
    found = [torch.zeros_like(p) for p in model.parameters()]
    for d in slopes(z.detach(), y):
        outputs = [output for _, _, output in layers]
        deltas = torch.autograd.grad(z, outputs, d, retain_graph=True)
        sizes = iter(found)
        for (layer, a, _), delta in zip(layers, deltas, strict=True):
            next(sizes).add_(torch.bmm(size(delta).mT, size(a)))
            if layer.bias is not None:
                next(sizes).add_(size(delta).sum(1))
    return found


def _one_after_the_other(
    model: Ensemble, x: Inputs, y: Tensor, slopes: Slopes, size: Size
) -> list[Tensor]:
    """For what vmap cannot compute; of one example after the other, all members."""
    parameters = list(model.parameters())
    found = [torch.zeros_like(p) for p in parameters]
    for i in range(y.shape[1]):
        z = model(each(lambda t, i=i: t[:, i : i + 1], x))
        for d in slopes(z.detach(), y[:, i : i + 1]):
            gradients = torch.autograd.grad(
                z, parameters, d, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            for total, g in zip(found, gradients, strict=True):
                total += size(g)
    return found


def _of_any_network(
    model: Ensemble, x: Inputs, y: Tensor, slopes: Slopes, size: Size
) -> list[Tensor]:
    network = model.network
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    buffers = dict(network.named_buffers())

    def one(
        theta: dict[str, Tensor], fixed: dict[str, Tensor], x: Inputs, y: Tensor
    ) -> dict[str, Tensor]:
        def f(theta: dict[str, Tensor]) -> Tensor:
            def model(*args: Any, **kwargs: Any) -> Any:
                return functional_call(network, {**theta, **fixed}, args, kwargs)

            z: Tensor = call(model, each(lambda t: t.unsqueeze(0), x))
            return z[0]

        z, pull_back = vjp(f, theta)[:2]
        (gradients,) = vmap(pull_back)(slopes(z, y))
        return {name: size(g).sum(0) for name, g in gradients.items()}

    def batch(
        theta: dict[str, Tensor], fixed: dict[str, Tensor], x: Inputs, y: Tensor
    ) -> dict[str, Tensor]:
        every = vmap(one, (None, None, 0, 0))(theta, fixed, x, y)
        return {name: value.sum(0) for name, value in every.items()}

    kind = model.device.type
    numbers = BATCH[kind] * sum(p[0].numel() for p in parameters.values())
    members = max(1, AT_A_TIME[kind] // numbers)
    found: dict[str, Tensor] = vmap(batch, chunk_size=members)(parameters, buffers, x, y)
    return [found[name] for name in parameters]
