"""What downloads must not do: write outside the store, or take away each other's parts of files."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any

from filelock import FileLock, Timeout


def is_below(path: Any) -> bool:
    """Whether a listed path names a file below any folder, on every system, in plain characters."""
    return (
        isinstance(path, str)
        and path.isprintable()
        and not {"", ".", ".."} & {*path.replace("\\", "/").split("/")}
        and not PureWindowsPath(path).drive
    )


@contextmanager
def alone_or_not(root: Path) -> Iterator[bool]:
    """For as long as a download into `root` lasts: whether no other one is under way.

    Each holds a lock file of its own, and one that nobody holds is of a killed process.
    """
    folder = root / ".cache" / "klom-downloads"
    folder.mkdir(parents=True, exist_ok=True)
    mine = FileLock(folder / f"{uuid.uuid4().hex}.lock")
    with mine:
        alone = True
        for path in folder.glob("*.lock"):
            if path == Path(mine.lock_file):
                continue
            try:
                with FileLock(path, timeout=0):
                    path.unlink(missing_ok=True)
            except Timeout:
                alone = False
        try:
            yield alone
        finally:
            Path(mine.lock_file).unlink(missing_ok=True)
