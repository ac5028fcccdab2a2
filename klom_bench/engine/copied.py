"""What goes from process to process, as bytes."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

QUICK = frozenset({torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool})
"""Of tensors that go as arrays: torch's own way takes ten times as long (measured)."""


@dataclass(frozen=True)
class Copied:
    """Arrives as a copy that may be written, of what was pickled: Ray's memory may not be."""

    content: bytes

    def __reduce__(self) -> Any:
        from ray import cloudpickle

        return cloudpickle.loads, (self.content,)


def copied(value: Any) -> Copied:
    """This value on its way. What cannot be pickled is told here: Ray itself would hide why."""
    return Copied(pickled(value, _as_array))


def pickled(value: Any, reduce: Callable[[Any], Any]) -> bytes:
    """By cloudpickle, but what `reduce` does not answer with NotImplemented, by what it says."""
    from ray import cloudpickle

    class Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, thing: Any) -> Any:
            found = reduce(thing)
            return super().reducer_override(thing) if found is NotImplemented else found

    buffer = io.BytesIO()
    Pickler(buffer).dump(value)
    return buffer.getvalue()


def _as_array(thing: Any) -> Any:
    if type(thing) is torch.Tensor and _is_plain(thing):
        return torch.from_numpy, (thing.numpy(),)
    return NotImplemented


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        tensor.dtype in QUICK
        and tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and not tensor.requires_grad
    )
