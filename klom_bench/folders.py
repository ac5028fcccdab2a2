"""Where things lie that nobody named, and names with a `~`; imports nothing heavy."""

import os
from pathlib import Path

from klom_bench.errors import KlomError


def expanded(text: str | Path, source: str) -> Path:
    """A path with `~` written out; KlomError that names the option or variable it came from."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise KlomError(f"{source} is {str(text)!r}: {error}") from error


def cache_folder(instead: str) -> Path:
    """The user's cache folder; KlomError where there is no home, as in a container.

    instead: what to say where the folder is to be named.
    """
    from platformdirs import user_cache_path

    try:
        return user_cache_path("klom-bench")
    except (RuntimeError, KeyError, OSError) as error:
        raise KlomError(f"there is no home folder to keep anything in: {instead}") from error


def store_root(named: Path | None, flag: str) -> Path:
    """Where the store lies: the folder named with this flag, else $KLOM_STORE, else the cache."""
    if named is not None:
        return expanded(named, flag)
    if variable := os.environ.get("KLOM_STORE"):
        return Path.cwd() / expanded(variable, "$KLOM_STORE")
    return cache_folder(f"name a store with {flag} or $KLOM_STORE")
