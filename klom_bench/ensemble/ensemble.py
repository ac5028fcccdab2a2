"""The Ensemble: M models of one architecture held as one module."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from klom_bench.ensemble.device import sent
from klom_bench.ensemble.dropout import active, draw_seed, own_streams, start_pass, use_own_streams
from klom_bench.ensemble.inputs import Inputs, at, count, each, is_dataset, tensors
from klom_bench.ensemble.outputs import Outputs, classification
from klom_bench.ensemble.randomness import alone_with_randomness
from klom_bench.ensemble.stacked import (
    LARGE,
    SIDE_BY_SIDE,
    Way,
    as_kernels_like_it,
    forward,
    one_by_one,
    without_fused_attention,
)

Architecture = Callable[[], nn.Module]
State = Mapping[str, Tensor]


def new_model(architecture: Architecture, seed: int = 0) -> nn.Module:
    """One freshly built model, its weights drawn with this seed; safe in threads."""
    with alone_with_randomness(seed):
        return architecture()


def initial_state(architecture: Architecture, seed: int) -> dict[str, Tensor]:
    """The state dict of a freshly built model."""
    return dict(new_model(architecture, seed).state_dict())


class Ensemble(nn.Module):
    """M models with stacked parameters: input [M, B, ...], logits [M, B, classes].

    Parameters and buffers have the names that one model gives them, with a leading member
    dimension. torch's optimizers work on it unchanged, since they are elementwise; a loss must be
    the mean over B *summed* over M (`klom_bench.cross_entropy`), so that members never mix.
    `generator(i)` is the random stream of the i-th member held here, `members` their numbers.
    Parameters that are shared by two layers stay so; those that the architecture has frozen are
    buffers here. `loss(x, y)` is what its task trains for, as such a mean.
    """

    def __init__(
        self,
        architecture: Architecture,
        states: Sequence[State],
        members: Sequence[int] | None = None,
        generators: Sequence[torch.Generator] | None = None,
        outputs: Outputs = classification,
        way: Way = SIDE_BY_SIDE,
    ) -> None:
        super().__init__()
        self.outputs, self.way = outputs, way
        self.architecture = architecture
        self.members = tuple(range(len(states)) if members is None else members)
        self.generators = tuple(
            (torch.Generator().manual_seed(i) for i in self.members)
            if generators is None
            else generators
        )
        self.network = new_model(architecture)
        shared: dict[Tensor, Tensor] = {}
        for name, value in list(self.network.state_dict(keep_vars=True).items()):
            home, leaf = _find(self.network, name)
            stack = torch.stack([state[name] for state in states])
            if stack.shape[1:] != value.shape:
                raise ValueError(
                    f"{name} is {tuple(stack.shape[1:])} in the state dict, "
                    f"{tuple(value.shape)} in the architecture"
                )
            if leaf in home._parameters and value.requires_grad:
                found = shared.setdefault(value, nn.Parameter(stack))
                home._parameters[leaf] = cast(nn.Parameter, found)
            else:
                home._parameters.pop(leaf, None)
                home._buffers[leaf] = shared.setdefault(value, stack)
        kept = {*self.network.state_dict()}
        for name, value in list(self.network.named_buffers()):
            if name not in kept:  # as of positions and masks: the same for all members
                home, leaf = _find(self.network, name)
                home._buffers[leaf] = value.expand(len(states), *value.shape).clone()
        self._drops = bool(use_own_streams(self.network, len(states)))
        parameters = sum(p.numel() for p in self.network.parameters()) / max(1, len(states))
        self._stacked = way.stacked and parameters < LARGE
        if not self._stacked:  # else each pass and each gradient would be laid anew
            for p in self.network.parameters():
                p.data = as_kernels_like_it(p.data)
        without_fused_attention()

    def __len__(self) -> int:
        return len(self.members)

    def forward(self, x: Inputs) -> Tensor:
        """Outputs [M, B, ...] of x [M, B, ...]: logits [M, B, classes], usually."""
        if not (self.way.mixed and self.training and self.device.type == "cuda"):
            return self._outputs(x)
        with torch.autocast("cuda", torch.bfloat16):
            z = self._outputs(x)
        return z.float()

    def _outputs(self, x: Inputs) -> Tensor:
        if self._drops and active(layers := own_streams(self.network)):
            of_members = torch.tensor([draw_seed(g) for g in self.generators])
            start_pass(layers, sent(of_members, self.device))
        if self._stacked:
            return forward(self.network, x)
        draws = self.way.draws and self.training
        seeds = [draw_seed(g) for g in self.generators] if draws else []
        with self._kernels():
            return one_by_one(self.network, x, seeds)

    def _kernels(self) -> AbstractContextManager[object]:
        """cuDNN's recurrent layers have no gradient in eval mode, and dropout of their own."""
        recurrent = any(isinstance(m, nn.RNNBase) for m in self.network.modules())
        on_gpu = recurrent and self.device.type == "cuda"
        return torch.backends.cudnn.flags(enabled=False) if on_gpu else nullcontext()

    @property
    def draws(self) -> bool:
        """Whether passes in training draw from the members' streams, as dropout does."""
        return self._drops or self.way.draws

    def loss(self, x: Inputs, y: Tensor) -> Tensor:
        """The mean loss over a batch x [M, B, ...], y [M, B], summed over members: a scalar."""
        return self.outputs.mean_loss(self(x), y)

    def losses(self, x: Inputs, y: Tensor) -> Tensor:
        """The loss of each point: [M, B]."""
        return self.outputs.losses(self(x), y)

    def generator(self, i: int) -> torch.Generator:
        """The random stream of the i-th member held here."""
        return self.generators[i]

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.parameters()).device

    def fresh_states(self) -> list[dict[str, Tensor]]:
        """State dicts of models freshly built, each member's drawn from its own stream."""
        seeds = [int(torch.randint(2**62, (), generator=g)) for g in self.generators]
        return [initial_state(self.architecture, seed) for seed in seeds]

    def states(self) -> list[dict[str, Tensor]]:
        """One CPU state dict a member, with the keys of a single model."""
        whole = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        plain = torch.contiguous_format
        return [
            {name: v[i].clone(memory_format=plain) for name, v in whole.items()}
            for i in range(len(self))
        ]

    @torch.no_grad()
    def load_states(self, states: Sequence[State]) -> None:
        """Overwrite all members, in place."""
        for name, value in self.network.state_dict().items():
            value.copy_(torch.stack([state[name] for state in states]))

    def clone(self) -> "Ensemble":
        """A copy with parameters and buffers of its own; it shares the random streams."""
        twin = copy.copy(self)
        twin._modules = {"network": copy.deepcopy(self.network)}
        return twin

    def fingerprints(self, trained: bool = False) -> list[str]:
        """One hash a member over its parameters and buffers; trained: over parameters alone."""
        found = self.network.parameters() if trained else self.network.state_dict().values()
        values = [v.detach().cpu().contiguous() for v in found]
        return [_hash(v[i] for v in values) for i in range(len(self))]

    def noise_like(self, stacked: Tensor) -> Tensor:
        """Standard normal noise [M, ...], each member's from its own stream."""
        (noise,) = self.noises_like([stacked])
        return noise

    def noises_like(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """The same for several tensors in turn, sent to their device in one buffer."""
        sizes = [stack[:1].numel() for stack in stacks]
        draws = [[torch.randn(size, generator=g) for size in sizes] for g in self.generators]
        buffer = sent(torch.stack([torch.cat(parts) for parts in draws]), stacks[0].device)
        parts = buffer.split(sizes, 1)
        return [part.view(stack.shape).to(stack) for part, stack in zip(parts, stacks, strict=True)]


@contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode; the mode of each layer before is restored."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; the mode of each layer before is restored."""
    with in_eval_mode(model), torch.no_grad():
        yield


BATCH = 512
Prepare = Callable[[Inputs], Inputs]


def as_they_are(x: Inputs) -> Inputs:
    """Points that are stored as models see them."""
    return x


def logits(
    model: Any,
    x: Inputs,
    members: int,
    prepare: Prepare = as_they_are,
    batch_size: int = BATCH,
    device: torch.device | None = None,
    first: int = 0,
) -> Tensor:
    """Outputs [M, points, ...] of every member on the same points x [points, ...].

    In canonical order and fixed, even batches: both change the last bits. first: the number of the
    first of them among all points, for models that are called with numbers, too (`of_points`).
    """
    known = getattr(model, "of_points", None)
    parts, n = [], count(x)
    device = device or (torch.device("cpu") if is_dataset(x) else tensors(x)[0].device)
    for start in range(0, n, batch_size):
        rows = torch.arange(start, min(start + batch_size, n))
        some = len(rows)
        even = torch.cat([rows, rows[-1:]]) if some % 2 else rows
        seen = each(
            lambda t: t.expand(members, *t.shape).contiguous(), prepare(at(x, even, device))
        )
        z = model(seen) if known is None else known(seen, first + even)
        parts.append(z[:, :some])
    return torch.cat(parts, 1)


def _hash(values: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _find(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return network.get_submodule(path), leaf
