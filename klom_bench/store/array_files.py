"""Arrays in .npy, .npz and .pt files, and state dicts; nothing that could run code is unpickled."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from klom_bench.errors import KlomError

T = TypeVar("T")
LFS = b"version https://git-lfs"


def read_array(path: Path) -> np.ndarray:
    """The array of a .npy or .pt file, half precision as float32; KlomError where it is none.

    torch is imported for .pt files only.
    """
    if path.suffix not in (".npy", ".pt"):
        raise KlomError(f"{path} is neither .npy nor .pt")
    return numbers(path, _guarded(path, _npy if path.suffix == ".npy" else _pt))


def numbers(path: Path, array: np.ndarray) -> np.ndarray:
    """The array, half precision as float32; KlomError for what is no real number."""
    if array.dtype.kind not in "fiu":
        mask = " (np.flatnonzero makes indices of a mask)" if array.dtype.kind == "b" else ""
        raise KlomError(f"{path} holds {array.dtype} values: numbers are expected{mask}")
    return array.astype(np.float32) if array.dtype == np.float16 else array


def shape_of(path: Path) -> tuple[int, ...]:
    """The shape of the array in a .npy or .pt file, read without its values."""
    read = _npy if path.suffix == ".npy" else _pt
    return _guarded(path, lambda p: read(p, lazy=True).shape)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name."""

    def read(p: Path) -> dict[str, np.ndarray]:
        with np.load(p, allow_pickle=False) as arrays:
            return {name: numbers(p, arrays[name]) for name in arrays.files}

    return _guarded(path, read)


def read_state(path: Path) -> dict[str, Any]:
    """The state dict of a .pt file."""
    state = _guarded(path, _torch_load)
    if not isinstance(state, dict):
        raise KlomError(f"{path} holds a {type(state).__name__}: a state dict is expected")
    return state


def _npy(path: Path, lazy: bool = False) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r" if lazy else None, allow_pickle=False))


def _pt(path: Path, lazy: bool = False) -> np.ndarray:
    tensor = _torch_load(path, mmap=lazy)
    if not hasattr(tensor, "numpy"):
        raise TypeError(f"it holds a {type(tensor).__name__}, not a tensor")
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return np.asarray(tensor.detach().numpy())


def _torch_load(path: Path, mmap: bool = False) -> Any:
    import torch

    mmap = mmap and zipfile.is_zipfile(path)  # files of before 2020 are none
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _guarded(path: Path, read: Callable[[Path], T]) -> T:
    """What a reader gives; KlomError for a file that is missing, damaged or could run code."""
    try:
        return read(path)
    except FileNotFoundError as error:
        raise KlomError(f"{path} is not there") from error
    except KlomError:
        raise
    except Exception as error:  # zip, pickle, numpy and torch each have errors of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if path.is_file() and path.open("rb").read(len(LFS)) == LFS:
            raise KlomError(
                f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull` there, "
                "or get it with `klom download`"
            ) from error
        code = "weights" in reason.lower() and "load" in reason.lower()
        if code or "allow_pickle" in reason or "Python objects" in reason:
            raise KlomError(
                f"{path} is refused: it holds pickled objects, which could run code, where numbers "
                "are expected"
            ) from error
        raise KlomError(f"{path} cannot be read: is it whole? ({reason})") from error
