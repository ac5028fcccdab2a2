"""Which file is which member, by a pattern: `run_{member}/model.pt`."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from klom_bench.errors import KlomError, visible
from klom_bench.files.names import gaps

MEMBER = "{member}"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
DEEPEST = 4
"""Folders below the one that is given in which checkpoints are looked for without a pattern."""
OF_TIME = re.compile(r"(?i)(?<![a-z])(ep|epoch|step|iter|iteration)s?[-_=]*$")
"""What stands before a number that is no member's."""
SHOWN = 4


@dataclass(frozen=True)
class Found:
    """Files by the number in their names, and other checkpoints, which are left aside."""

    pattern: str
    files: Mapping[int, Path]
    others: tuple[str, ...]


def find(folder: Path, pattern: str | None) -> Found:
    """The files of members below a folder; KlomError where it is not clear which these are.

    pattern: as `run_{member}/model.pt`, where `*` stands for any characters but `/`. None: that of
    most checkpoints, which must be one.
    """
    if not folder.is_dir():
        what = "a file: name the folder that holds it" if folder.exists() else "not there"
        raise KlomError(f"{folder} is {what}")
    every = [] if pattern else [p for p in _below(folder, DEEPEST) if p.endswith(SUFFIXES)]
    pattern = pattern or _guessed(folder, every)
    if MEMBER not in pattern or pattern.startswith("/"):
        raise KlomError(
            f"--pattern {pattern!r} does not say where the number of a member stands, below "
            f"{folder}: write {MEMBER} in its place, as run_{MEMBER}/model.pt"
        )
    found = dict(_matching(folder, pattern))
    if not found:
        some = [p for p in _below(folder, DEEPEST) if p.endswith(SUFFIXES)]
        raise KlomError(
            f"no file below {folder} is named like {pattern!r}; there are {few(some) or 'none'}"
        )
    files: dict[int, Path] = {}
    for path, number in sorted(found.items()):
        if number in files:
            raise KlomError(
                f"{files[number].relative_to(folder)} and {path} are both of member {number}: "
                "move one away, or name one kind with --pattern"
            )
        files[number] = folder / path
    if missing := gaps([*files]):
        raise KlomError(
            f"below {folder} there is no file {pattern!r} of {missing}, and members are numbered "
            "without gaps: bring what is missing, or number the others anew (links will do)"
        )
    others = tuple(path for path in every if path not in found)
    return Found(pattern, dict(sorted(files.items())), others)


def _below(folder: Path, depth: int, under: str = "") -> Iterator[str]:
    """Paths of files, relative to the folder; links are followed, which ends with the depth."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield under + path.name
        elif path.is_dir() and depth:
            yield from _below(path, depth - 1, f"{under}{path.name}/")


def _matching(folder: Path, pattern: str) -> Iterator[tuple[str, int]]:
    """(path, number of the member) of files with such a name."""
    whole = re.compile(_expression(pattern))
    *above, _ = pattern.split("/")
    places = [(folder, "")]
    for part in above:
        name = re.compile(_expression(part))
        places = [
            (path, f"{under}{path.name}/")
            for place, under in places
            for path in sorted(place.iterdir())
            if path.is_dir() and name.fullmatch(path.name)
        ]
    for place, under in places:
        for path in sorted(place.iterdir()):
            if path.is_file() and (match := whole.fullmatch(under + path.name)):
                yield under + path.name, int(match["member"])


def _expression(pattern: str) -> str:
    """A regular expression; a number that stands there twice must be the same."""
    first, parts = True, []
    for part in re.split(r"(\{member\}|\*)", pattern):
        if part == MEMBER:
            parts.append(r"(?P<member>[0-9]+)" if first else r"(?P=member)")
            first = False
        else:
            parts.append("[^/]*" if part == "*" else re.escape(part))
    return "".join(parts)


def _guessed(folder: Path, paths: list[str]) -> str:
    """The pattern of most of these files; KlomError where that is of none, or of several."""
    patterns: dict[str, set[str]] = {}
    for path in paths:
        for pattern in _patterns(path):
            patterns.setdefault(pattern, set()).add(path)
    most = max(map(len, patterns.values()), default=0)
    best = [pattern for pattern, files in patterns.items() if len(files) == most > 1]
    if not best:
        raise KlomError(
            f"below {folder} are no numbered checkpoints ({', '.join(SUFFIXES)}) but "
            f"{few(paths) or 'none at all'}. Say how members are named, as --pattern "
            f"'run_{MEMBER}/model.pt'"
        )
    if len(best) > 1:
        asked = " or ".join(f"--pattern {pattern!r}" for pattern in best[:SHOWN])
        raise KlomError(f"below {folder} are several kinds of {most} files: say which, {asked}")
    return best[0]


def _patterns(path: str) -> set[str]:
    """Patterns that a path may be an example of: for each of its numbers one."""
    found = set()
    for match in re.finditer(r"[0-9]+", path):
        if OF_TIME.search(path[: match.start()]):
            continue
        found.add(path[: match.start()] + MEMBER + path[match.end() :])
        found.add(re.sub(rf"(?<![0-9]){match[0]}(?![0-9])", MEMBER, path))
    return found


def few(names: Sequence[str]) -> str:
    """The first four, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return visible(", ".join(names[:SHOWN])) + more
