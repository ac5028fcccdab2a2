"""The one exception for what a user can put right, and the one warning."""

import warnings
from collections.abc import Iterable
from difflib import get_close_matches


class KlomError(Exception):
    """Something that the user can put right; the message says what to do, no traceback needed.

    Example:
        >>> from klom_bench import Descent
        >>> Descent(max_norm=-1.0)
        Traceback (most recent call last):
            ...
        klom_bench.errors.KlomError: max_norm must be a norm, or 0 for none; got -1.0
    """


class KlomWarning(UserWarning):
    """Something that the user should know, and that stops nothing."""


def warn(text: str) -> None:
    """Say it as a warning that points at no line of code: the user has written none of it."""
    warnings.warn_explicit(text, KlomWarning, "klom_bench", 0)


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Message for a name that is not known: the nearest ones first, then all."""
    names = list(known)
    near = get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"unknown {kind} {name!r}: {hint}known are {', '.join(names) or 'none'}"


def visible(text: str) -> str:
    """A name from a file or an option on one line, its control characters written out.

    So that it cannot move the cursor, break a table, or begin a line of commands of GitHub Actions.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def visible_lines(text: str) -> str:
    """A message of several lines, in which nothing but line ends acts on a terminal or on CI."""
    lines = [visible(line) for line in text.split("\n")]
    return "\n".join(f" {line}" if line.startswith("::") else line for line in lines)
