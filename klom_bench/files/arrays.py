"""Arrays in .npy, .npz and .pt files, and state dicts; nothing that could run code is unpickled."""

import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from klom_bench.errors import KlomError, visible

T = TypeVar("T")
MUCH, THIN = 2**28, 100
"""Bytes, and how many times as large as the file: what unpacks to more of both is refused."""
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
        _refuse_bombs(p)
        with np.load(p, allow_pickle=False) as arrays:
            return {name: numbers(p, arrays[name]) for name in arrays.files}

    return _guarded(path, read)


def _refuse_bombs(path: Path) -> None:
    """KlomError for a .npz whose arrays unpack to more than their shapes need, or to gigabytes of
    next to nothing; told from its directory and headers, before anything is unpacked."""
    with zipfile.ZipFile(path) as packed:
        entries = packed.infolist()
        for entry in entries:
            with packed.open(entry) as stream:
                version = np.lib.format.read_magic(stream)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, _, dtype = read(stream)
                if dtype.hasobject:
                    raise ValueError("it holds Python objects")
                needed = stream.tell() + math.prod(shape) * dtype.itemsize
            if entry.file_size != needed:
                raise KlomError(
                    f"{path}: {visible(entry.filename)} unpacks to {entry.file_size} bytes, where "
                    f"its shape {shape} needs {needed}: it is damaged, or made to fill the memory"
                )
    size, whole = (sum(getattr(e, of) for e in entries) for of in ("compress_size", "file_size"))
    if whole > max(MUCH, THIN * size):
        raise KlomError(
            f"{path} unpacks from {size} bytes to {whole / 1e9:.1f} GB, which no margins of "
            "models do. If they are yours, save them with np.savez, which does not pack"
        )


def read_state(path: Path) -> dict[str, Any]:
    """The state dict of a .pt or .safetensors file."""
    state = _guarded(path, _safetensors if path.suffix == ".safetensors" else _torch_load)
    if not isinstance(state, dict):
        raise KlomError(f"{path} holds a {type(state).__name__}: a state dict is expected")
    return state


def _npy(path: Path, lazy: bool = False) -> np.ndarray:
    return np.asarray(np.load(path, mmap_mode="r" if lazy else None, allow_pickle=False))


def _pt(path: Path, lazy: bool = False) -> np.ndarray:
    tensor = _torch_load(path, mmap=lazy)
    if not hasattr(tensor, "numpy"):
        raise TypeError(f"it holds a {type(tensor).__name__}, not a tensor")
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise KlomError(
            f"{path} holds {tensor.numel()} numbers by its shape, and fewer in fact: it is "
            "damaged, or made to fill the memory"
        )
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    return np.asarray(tensor.detach().numpy())


def _torch_load(path: Path, mmap: bool = False) -> Any:
    import torch

    packed = zipfile.is_zipfile(path)  # files of before 2020 are none
    if packed:
        with zipfile.ZipFile(path) as entries:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.infolist()):
                raise KlomError(f"{path} is packed, as torch.save packs nothing: it is refused")
    mmap = mmap and packed
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise KlomError(f"{path} needs safetensors: pip install klom-bench[safetensors]") from error
    return load_file(path)


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
