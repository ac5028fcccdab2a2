"""Inputs of models: a tensor, a dict or tuple of tensors, or a dataset that is read piece by piece.

A model is called with a tensor as its argument, with the entries of a dict by keyword (token ids
and their mask), with those of a tuple in their order.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

Inputs = Any
"""A tensor, or a dict or tuple of such; or an object with `__len__` and `__getitem__` that gives
one point's. mypy cannot tell them apart in signatures that map one to the same kind."""


def each(f: Callable[..., Any], *xs: Inputs) -> Inputs:
    """f over the tensors of inputs of the same kind; the same kind again."""
    first = xs[0]
    if isinstance(first, Mapping):
        return {name: each(f, *(x[name] for x in xs)) for name in first}
    if isinstance(first, tuple | list):
        return tuple(each(f, *parts) for parts in zip(*xs, strict=True))
    return f(*xs)


def tensors(x: Inputs) -> list[Tensor]:
    """All tensors of inputs."""
    if isinstance(x, Mapping):
        return [t for part in x.values() for t in tensors(part)]
    if isinstance(x, tuple | list):
        return [t for part in x for t in tensors(part)]
    return [x]


def named(x: Inputs, name: str) -> dict[str, Any]:
    """The parts of inputs, by names for messages: `x["mask"]`, `x[0]`."""
    if isinstance(x, Mapping):
        return {k: v for key, part in x.items() for k, v in named(part, f"{name}[{key!r}]").items()}
    if isinstance(x, tuple | list):
        return {k: v for i, part in enumerate(x) for k, v in named(part, f"{name}[{i}]").items()}
    return {name: x}


def is_dataset(x: Inputs) -> bool:
    """Whether points are read one by one."""
    plain = isinstance(x, Tensor | Mapping | tuple | list)
    return not plain and hasattr(x, "__getitem__") and hasattr(x, "__len__")


def count(x: Inputs) -> int:
    """How many points there are."""
    return len(x if is_dataset(x) else tensors(x)[0])


def at(x: Inputs, rows: Tensor, device: torch.device) -> Inputs:
    """Points with these numbers [...]: tensors [..., *shape of a point] on a device."""
    if not is_dataset(x):
        return each(lambda t: t[rows.to(t.device)].to(device), x)
    points = [x[i] for i in rows.flatten().tolist()]
    stacked = each(lambda *parts: torch.stack([torch.as_tensor(p) for p in parts]), *points)
    return each(lambda t: t.view(*rows.shape, *t.shape[1:]).to(device), stacked)


def call(model: Callable[..., Any], x: Inputs) -> Any:
    """What one model makes of x: the logits, where it gives an object that has them."""
    if isinstance(x, Mapping):
        found = model(**x)
    elif isinstance(x, tuple):
        found = model(*x)
    else:
        found = model(x)
    return getattr(found, "logits", found)
