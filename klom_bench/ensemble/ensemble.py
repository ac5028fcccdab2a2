"""The Ensemble: M models of one architecture held as one module."""

import copy
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from klom_bench.ensemble.dropout import active, draw_seed, own_streams, start_pass, use_own_streams
from klom_bench.ensemble.stacked import LARGE, forward, one_by_one

Architecture = Callable[[], nn.Module]
State = Mapping[str, Tensor]

# Building a module draws its weights from torch's global random state: one thread at a time.
_GLOBAL_RANDOM_STATE = threading.Lock()


@contextmanager
def alone_with_randomness(seed: int) -> Iterator[None]:
    """torch's global random state, set to this seed and afterwards as it was; safe in threads."""
    with _GLOBAL_RANDOM_STATE, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


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
    """

    def __init__(
        self,
        architecture: Architecture,
        states: Sequence[State],
        members: Sequence[int] | None = None,
        generators: Sequence[torch.Generator] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.members = tuple(range(len(states)) if members is None else members)
        self.generators = tuple(
            (torch.Generator().manual_seed(i) for i in self.members)
            if generators is None
            else generators
        )
        self.network = new_model(architecture)
        for name, value in list(self.network.state_dict().items()):
            home, leaf = _find(self.network, name)
            stack = torch.stack([state[name] for state in states])
            if stack.shape[1:] != value.shape:
                raise ValueError(
                    f"{name} is {tuple(stack.shape[1:])} in the state dict, "
                    f"{tuple(value.shape)} in the architecture"
                )
            if leaf in home._parameters:
                home._parameters[leaf] = nn.Parameter(stack)
            else:
                home._buffers[leaf] = stack
        kept = {*self.network.state_dict()}
        for name, value in list(self.network.named_buffers()):
            if name not in kept:  # as of positions and masks: the same for all members
                home, leaf = _find(self.network, name)
                home._buffers[leaf] = value.expand(len(states), *value.shape).clone()
        self._drops = bool(use_own_streams(self.network, len(states)))
        parameters = sum(p.numel() for p in self.network.parameters()) / max(1, len(states))
        self._apply_network = one_by_one if parameters >= LARGE else forward

    def __len__(self) -> int:
        return len(self.members)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [M, B, classes] of x [M, B, ...]."""
        if self._drops and active(layers := own_streams(self.network)):
            start_pass(layers, torch.tensor([draw_seed(g) for g in self.generators]))
        return self._apply_network(self.network, x)

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
        return [{name: v[i].clone() for name, v in whole.items()} for i in range(len(self))]

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

    def fingerprints(self) -> list[str]:
        """One hash a member over its parameters and buffers."""
        values = [v.detach().cpu().contiguous() for v in self.network.state_dict().values()]
        return [_hash(v[i] for v in values) for i in range(len(self))]

    def noise_like(self, stacked: Tensor) -> Tensor:
        """Standard normal noise [M, ...], each member's from its own stream."""
        draws = [torch.randn(stacked.shape[1:], generator=g) for g in self.generators]
        return torch.stack(draws).to(stacked)


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
Prepare = Callable[[Tensor], Tensor]


def as_they_are(x: Tensor) -> Tensor:
    """Points that are stored as models see them."""
    return x


def logits(
    model: Any, x: Tensor, members: int, prepare: Prepare = as_they_are, batch_size: int = BATCH
) -> Tensor:
    """Logits [M, points, classes] of every member on the same points x [points, ...].

    In canonical order and fixed, even batches: both change the last bits.
    """
    parts = []
    for part in x.split(batch_size):
        even = torch.cat([part, part[-1:]]) if len(part) % 2 else part
        seen = prepare(even).expand(members, -1, *[-1] * (x.ndim - 1))
        parts.append(model(seen.contiguous())[:, : len(part)])
    return torch.cat(parts, 1)


def _hash(values: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for value in values:
        digest.update(value.numpy().reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _find(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return network.get_submodule(path), leaf
