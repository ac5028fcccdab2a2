"""Counts and lists of names in sentences."""

from collections.abc import Iterable, Sequence

from klom_bench.errors import visible


def each(names: Iterable[str]) -> list[str]:
    """Each name once, visible."""
    return [visible(name) for name in dict.fromkeys(names)]


def all_of(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def some_of(names: Sequence[str], most: int = 12) -> str:
    """The same, of many the first."""
    rest = len(names) - most
    return all_of([*names[:most], f"{rest} more"] if rest > 0 else names)


def counted(names: Sequence[str], what: str) -> str:
    """How many, and which where they are few."""
    return so_many(len(names), what) + (f" ({all_of(names)})" if len(names) <= 4 else "")


def so_many(count: int, what: str) -> str:
    """A count with its word."""
    return f"{count} {what}" + "s" * (count != 1)


def from_to(counts: Iterable[int]) -> str:
    """The least and the most."""
    least, *_, most = sorted({*counts}) * 2
    return str(least) if least == most else f"{least} to {most}"
