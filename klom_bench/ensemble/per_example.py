"""What each training example alone asks of the parameters."""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.func import functional_call, vmap

from klom_bench.ensemble.ensemble import Ensemble, in_eval_mode
from klom_bench.ensemble.points import Points

Parameters = Mapping[str, Tensor]
Outputs = Callable[[Parameters, Tensor], Tensor]
Statistic = Callable[[Outputs, Parameters, Tensor, Tensor], dict[str, Tensor]]

BATCH = 16  # examples at a time; 64 took 1.6 times as long, 8 ten times (measured)
AT_A_TIME = 2**24  # numbers of gradients held at a time


def mean_over_examples(model: Ensemble, points: Points, statistic: Statistic) -> list[Tensor]:
    """Mean over the points of what one example gives: a tensor a parameter [M, ...].

    statistic(f, θ, x, y) gives a tensor a parameter; f(θ, x) are the logits [classes] of one model
    on one example. In eval mode, whatever mode the model is in.
    """
    network = model.network
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())

    def one(theta: Parameters, fixed: Parameters, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        def f(theta: Parameters, x: Tensor) -> Tensor:
            z: Tensor = functional_call(network, {**theta, **fixed}, (x.unsqueeze(0),))
            return z[0]

        return statistic(f, theta, x, y)

    def batch(theta: Parameters, fixed: Parameters, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        every = vmap(one, (None, None, 0, 0))(theta, fixed, x, y)
        return {name: value.sum(0) for name, value in every.items()}

    numbers = BATCH * sum(p[0].numel() for p in parameters.values())
    together = vmap(batch, chunk_size=max(1, AT_A_TIME // numbers))
    total: dict[str, Tensor] = {}
    held = {name: p.detach() for name, p in parameters.items()}
    with in_eval_mode(model):
        for x, y in points.batches(BATCH):
            found = together(held, buffers, x, y)
            total = {n: total[n] + found[n] if total else found[n] for n in parameters}
    return [total[name] / len(points) for name in parameters]
