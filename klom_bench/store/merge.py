"""Joining stores into which members of the same ensembles were trained apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from klom_bench.errors import KlomError
from klom_bench.files import atomic
from klom_bench.progress import Announce, silent
from klom_bench.store import members
from klom_bench.store.manifest import Manifest, identity_bytes, read, visible_names
from klom_bench.store.members import MALFORMED, MEMBERS, unreadable
from klom_bench.store.survey import folders_of_ours
from klom_bench.tasks.ensemble_id import PARTS
from klom_bench.tasks.signature import difference

SHOWN = 5


def merge(sources: Sequence[Path], target: Path, announce: Announce = silent) -> dict[str, int]:
    """Copy into a store what others have more; how many members, by folder of the ensemble.

    Everything is compared first: KlomError where two stores hold different ensembles in one folder,
    or different members of one number, and then nothing is copied. What is there already is left
    alone, so that the same command goes on where it was stopped.
    """
    new = _missing(sources, target)
    added: dict[str, int] = {}
    with announce("copying members", len(new)) as tick:
        for (place, number), (source, manifest) in new.items():
            _copy(source / place, target / place, manifest, number)
            added[place] = added.get(place, 0) + 1
            tick(1)
    return added


def _missing(sources: Sequence[Path], target: Path) -> dict[tuple[str, int], tuple[Path, Manifest]]:
    """(folder, member) -> a store that has it, of those that the target lacks."""
    whole = dict.fromkeys(path.resolve() for path in (target, *sources))
    known: dict[str, tuple[Path, Manifest]] = {}
    found: dict[tuple[str, int], tuple[Path, Manifest]] = {}
    contradicting = []
    for store in whole:
        places = [*folders_of_ours(store)]
        if store != target.resolve() and not places:
            what = "nothing that was trained here" if store.is_dir() else "no store"
            raise KlomError(f"there is {what} in {store}: it cannot be merged")
        for place in places:
            if (there := visible_names(target / place)) and "manifest.json" not in there:
                raise KlomError(
                    f"{target / place} holds files but no manifest.json: it is published, and "
                    "never written into. Name another --store"
                )
            manifest = _read(store / place)
            first, known_as = known.setdefault(place, (store, manifest))
            if different := _differences(known_as.identity, manifest.identity):
                raise KlomError(
                    f"{first / place} and {store / place} are different ensembles: "
                    f"{'; '.join(different)}"
                )
            for i, member in manifest.members.items():
                if len(member.files) != 1 + len(PARTS):
                    raise unreadable(store / place / MEMBERS / f"{i}.json", "it lacks a file")
                other, theirs = found.setdefault((place, i), (store, manifest))
                if theirs.members[i].files != member.files:
                    contradicting.append(f"member {i} of {place} in {other} and in {store}")
    if contradicting:
        more = f", and {len(contradicting) - SHOWN} more" if contradicting[SHOWN:] else ""
        raise KlomError(
            f"nothing was copied, since stores disagree: {', '.join(contradicting[:SHOWN])}{more}. "
            "Each was trained twice, to other bits. Of each remove one: its file in `members` and "
            "the files that it names"
        )
    return {key: lies for key, lies in found.items() if lies[0] != target.resolve()}


def _read(folder: Path) -> Manifest:
    try:
        return read(folder)
    except MALFORMED as error:
        raise KlomError(
            f"{folder / 'manifest.json'} cannot be read ({type(error).__name__}: {error}): restore "
            "it, or move that folder away"
        ) from error


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """What is not the same in two identities, in words; models may differ by rounding."""
    words = []
    for key in dict.fromkeys((*a, *b)):
        if key == "model" and a.get(key) and b.get(key):
            words += [text] if (text := difference(a[key], b[key])) else []
        elif a.get(key) != b.get(key):
            words.append(f"{key} differs")
    return words


def _copy(source: Path, target: Path, manifest: Manifest, number: int) -> None:
    """One member: its files, each by its checksum, then what says that it is whole."""
    target.mkdir(parents=True, exist_ok=True)
    atomic.write_first(target / "manifest.json", identity_bytes(manifest.identity))
    member = manifest.members[number]
    for name, checksum in member.files.items():
        content = atomic.read(source / name, checksum)
        if atomic.write_first(target / name, content) != content:
            raise KlomError(
                f"{target / name} is of a run that has not ended, or was killed: let it end, or "
                "remove that file, and merge again"
            )
    members.write(target, number, member)
