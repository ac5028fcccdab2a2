"""Checkpoints that others have published, under the names of our architectures."""

from pathlib import Path
from typing import Any

from torch import Tensor

from klom_bench.errors import KlomError

PREFIXES = ("model.", "module.")
"""What published checkpoints put before the names of a model's parameters."""


def fitting(state: dict[str, Any], shapes: dict[str, list[int]], path: Path) -> dict[str, Tensor]:
    """The state dict with the names of the architecture; KlomError that names what does not fit."""
    found = {str(name): value for name, value in state.items()}
    while found and set(found) != set(shapes):
        prefix = next((p for p in PREFIXES if all(k.startswith(p) for k in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    counter = "num_batches_tracked"
    wrong = [
        f"{name} is no tensor of floating point numbers"
        for name, value in found.items()
        if not isinstance(value, Tensor)
        or not (value.is_floating_point() or name.endswith(counter))
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
    return {name: v.float() if v.is_floating_point() else v for name, v in found.items()}
