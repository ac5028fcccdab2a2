"""Whole files or none, and never one that was altered."""

import contextlib
import hashlib
import io
import secrets
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from klom_bench.errors import KlomError

PARTIAL = ".partial"
OLD_SECONDS = 3600


def write(path: Path, content: bytes) -> str:
    """Write a file of the store whole; returns the checksum, KlomError where it cannot."""
    try:
        write_whole(path, content)
    except FileNotFoundError as error:
        raise KlomError(
            f"cannot write {path}: its folder is gone. Was the store removed, or a file system "
            "unmounted, while the run was going on? The same command starts it anew"
        ) from error
    except OSError as error:
        raise KlomError(
            f"cannot write {path}: {error.strerror}. Make room or choose another folder with "
            "--klom-store; members that were finished before are kept"
        ) from error
    return hashlib.sha256(content).hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a killed run leaves no half file.

    The file beside has a name that nobody can guess, and is never one that is there already: a
    link that somebody planted is not followed.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        with partial.open("xb") as stream:
            stream.write(content)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half written; writing one file takes no hour."""
    for partial in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            if time.time() - partial.lstat().st_mtime > OLD_SECONDS:
                partial.unlink()


def read(path: Path, sha256: str) -> bytes:
    """The content of a file; KlomError where it is missing, truncated or altered."""
    try:
        content = path.read_bytes()
    except OSError as error:
        gone = "" if path.parent.is_dir() else "; its folder is gone: was the store removed?"
        raise KlomError(
            f"{path} is listed in manifest.json but cannot be read ({error.strerror}){gone}: "
            "restore it, or remove the ensemble with `klom remove` to have it trained again"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise KlomError(
            f"{path} is not the file that was written ({len(content)} bytes, its checksum differs "
            "from manifest.json): restore it, or remove the ensemble with `klom remove` to have "
            "it trained again"
        )
    return content


def array_bytes(array: np.ndarray) -> bytes:
    """An array as the content of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def array_from(content: bytes) -> np.ndarray:
    """The array in a .npy file's content."""
    return np.asarray(np.load(io.BytesIO(content), allow_pickle=False))


def state_bytes(state: dict[str, torch.Tensor] | torch.Tensor) -> bytes:
    """A state dict, or a tensor, as the content of a .pt file."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_from(content: bytes) -> dict[str, Any]:
    """The state dict in a .pt file's content."""
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
