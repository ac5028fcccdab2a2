"""Whole files or none, and never one that was altered."""

import contextlib
import errno
import hashlib
import io
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from klom_bench.errors import KlomError

if TYPE_CHECKING:
    from torch import Tensor

PARTIAL = ".partial"
OLD_SECONDS = 24 * 3600
"""Half files of an age that no clock of another machine explains."""
TRIES = 100
NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK}
"""What file systems without hard links say."""


def sha256(content: bytes) -> str:
    """The checksum of a file's content."""
    return hashlib.sha256(content).hexdigest()


def write(path: Path, content: bytes) -> str:
    """Write a file of the store whole; returns the checksum, KlomError where it cannot."""
    with _told(path):
        write_whole(path, content)
    return sha256(content)


def write_first(path: Path, content: bytes) -> bytes:
    """Write a file of the store whole unless it is there; returns what lies there then.

    Of any number of writers on any number of machines one is first, and its content is what all
    return. KlomError where it cannot be written.
    """
    with _told(path), _beside(path, content) as partial:
        for _ in range(TRIES):
            try:
                _put_first(partial, path)
                return content
            except FileExistsError:
                with contextlib.suppress(FileNotFoundError):  # it has gone meanwhile
                    return path.read_bytes()
        raise FileExistsError(errno.EEXIST, "it is there, and cannot be read")


def write_whole(path: Path, content: bytes) -> None:
    """Write beside and rename, so that a killed run leaves no half file."""
    with _beside(path, content) as partial:
        partial.replace(path)


@contextlib.contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """The content in a file of its own in the same folder, which is gone afterwards.

    It has a name that nobody can guess, and is never one that is there already: a link that
    somebody planted is not followed.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        with partial.open("xb") as stream:
            stream.write(content)
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _put_first(partial: Path, path: Path) -> None:
    """Give a whole file its name; FileExistsError where another has it."""
    try:
        os.link(partial, path)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        _put_first_without_links(partial, path)


def _put_first_without_links(partial: Path, path: Path) -> None:
    """The same where making a folder is all that only one can do."""
    mine = path.with_name(f".{path.name}.first")
    for _ in range(TRIES):  # who was killed here holds nobody up for ever
        if path.exists():
            raise FileExistsError
        try:
            mine.mkdir()
            break
        except FileExistsError:
            time.sleep(0.1)
    try:
        if path.exists():
            raise FileExistsError
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            mine.rmdir()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What can be done about a file that cannot be written."""
    try:
        yield
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


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half written; writing one file takes no day."""
    for partial in folder.glob(f".*{PARTIAL}"):
        with contextlib.suppress(OSError):
            if time.time() - partial.lstat().st_mtime > OLD_SECONDS:
                partial.unlink()


def read(path: Path, checksum: str) -> bytes:
    """The content of a file; KlomError where it is missing, truncated or altered."""
    try:
        content = path.read_bytes()
    except OSError as error:
        gone = "" if path.parent.is_dir() else "; its folder is gone: was the store removed?"
        raise KlomError(
            f"{path} is part of a member but cannot be read ({error.strerror}){gone}: restore it, "
            "or remove the ensemble with `klom remove` to have it trained again"
        ) from error
    if sha256(content) != checksum:
        raise KlomError(
            f"{path} is not the file that was written ({len(content)} bytes, its checksum differs "
            "from its member's): restore it, or remove the ensemble with `klom remove` to have it "
            "trained again"
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


def state_bytes(state: "dict[str, Tensor] | Tensor") -> bytes:
    """A state dict, or a tensor, as the content of a .pt file."""
    import torch  # what scores margins need not wait for it

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def state_from(content: bytes) -> dict[str, Any]:
    """The state dict in a .pt file's content."""
    import torch

    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state
