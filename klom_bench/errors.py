"""The one exception for what a user can put right."""

from collections.abc import Iterable
from difflib import get_close_matches


class KlomError(Exception):
    """Something that the user can put right; the message says what to do, no traceback needed."""


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not known: the nearest ones first, then all."""
    names = list(known)
    near = get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}known are {', '.join(names) or 'none'}"
