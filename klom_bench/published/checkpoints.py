"""Checkpoints that others have made, under the names of our architectures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from klom_bench.errors import KlomError

PREFIXES = ("model.", "module.", "_orig_mod.")
"""What wrappers, DataParallel and torch.compile put before the names of a model's parameters."""
NESTED = ("state_dict", "model_state_dict", "model")
"""Under which name a checkpoint may hold the state dict beside that of an optimizer."""


def fitting(state: Mapping[Any, Any], like: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The state dict with the names and dtypes of the architecture.

    like: the state dict of a model, whose values do not matter. KlomError that names what does not
    fit.
    """
    inner = next((state[n] for n in NESTED if isinstance(state.get(n), Mapping)), state)
    found = {str(name): value for name, value in inner.items()}
    shapes = {name: list(value.shape) for name, value in like.items()}
    while found and set(found) != set(shapes):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    whole = {name for name, value in like.items() if not value.is_floating_point()}
    wrong = [
        f"{name} is no tensor of floating point numbers"
        for name, value in found.items()
        if not isinstance(value, Tensor) or not (value.is_floating_point() or name in whole)
    ]
    wrong += [f"{name} is missing" for name in shapes if name not in found]
    wrong += [f"{name} is unknown" for name in found if name not in shapes]
    wrong += [
        f"{name} is {list(value.shape)}, not {shapes[name]}"
        for name, value in found.items()
        if name in shapes and isinstance(value, Tensor) and list(value.shape) != shapes[name]
    ]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise KlomError(f"{path} is no state dict of this task: {'; '.join(wrong[:5])}{more}")
    return {name: found[name].detach().to(value.dtype) for name, value in like.items()}
