"""One code for NumPy arrays and torch tensors: both libraries share the names that we use."""

import sys
from typing import Any

import numpy as np


def namespace(*arrays: Any) -> Any:
    """The module (numpy or torch) whose functions take these arrays; torch is never imported."""
    for array in arrays:
        if not hasattr(array, "shape"):
            raise TypeError(f"give NumPy arrays or torch tensors, not a {type(array).__name__}")
    torch = sys.modules.get("torch")
    tensors = [torch is not None and isinstance(array, torch.Tensor) for array in arrays]
    if not any(tensors):
        return np
    if not all(tensors):
        raise TypeError("give NumPy arrays or torch tensors, not one of each")
    if len({str(array.device) for array in arrays}) > 1:
        raise TypeError(f"tensors lie on different devices: {[str(a.device) for a in arrays]}")
    return torch


def arange(xp: Any, n: int, like: Any) -> Any:
    """0..n-1 on the device of `like`."""
    return np.arange(n) if xp is np else xp.arange(n, device=like.device)


def cast(xp: Any, array: Any, dtype: Any) -> Any:
    """The same values in another dtype."""
    if xp is not np:
        return array.to(dtype)
    with np.errstate(over="ignore"):  # what becomes infinite is for the caller to refuse
        return array.astype(dtype, copy=False)


def refuse_odd(xp: Any, name: str, array: Any, kinds: str = "fiu") -> None:
    """ValueError for what holds no plain numbers: masked, complex, true or false, text, objects.

    kinds: NumPy's letters of what is allowed, floats (f) and whole numbers (iu).
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(f"{name}: a masked array; leave masked members out, and give the others")
    if isinstance(array, np.matrix):
        raise ValueError(f"{name}: a matrix; an array is expected (np.asarray)")
    if xp is not np and (array.layout != xp.strided or array.is_quantized):
        raise ValueError(f"{name}: a dense tensor of plain numbers is expected")
    if xp is np:
        kind = array.dtype.kind
    elif array.is_complex() or array.dtype == xp.bool:
        kind = "c" if array.is_complex() else "b"
    else:
        kind = "f" if array.is_floating_point() else "i"
    if kind not in kinds:
        wanted = "real numbers" if "f" in kinds else "integers"
        raise ValueError(f"{name}: {wanted} are expected, not {array.dtype}")
