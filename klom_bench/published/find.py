"""Finding what others have published of an ensemble: by looking, since it has no manifest."""

import os
from pathlib import Path

from klom_bench.errors import KlomError
from klom_bench.published.ensemble import PublishedEnsemble
from klom_bench.published.layouts import best, families, places
from klom_bench.published.shapes import by_shape
from klom_bench.tasks.ensemble_id import EnsembleId


def find(root: Path, ensemble: EnsembleId) -> PublishedEnsemble | None:
    """What the published layouts hold of an ensemble, None where nothing is, or one of ours."""
    if os.path.lexists(root / ensemble.folder / "manifest.json"):
        return None
    if (root / ensemble.folder / "members").is_dir():
        raise KlomError(
            f"{root / ensemble.folder} has lost its manifest.json, or is not copied whole: copy "
            "that file, too, or move the folder away"
        )
    found = [
        (place, f"{place.folder}/{name}", size)
        for place in places(ensemble)
        for name, size in _files(root / place.folder)
    ]
    if any(path == f"{ensemble.folder.as_posix()}/manifest.json" for _, path, _ in found):
        return None  # it has just been written
    family = best(families(ensemble, found), by_shape(root))
    return PublishedEnsemble(root, ensemble, family) if family else None


def _files(folder: Path) -> list[tuple[str, int]]:
    """Names and sizes of the files in a folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e.name, e.stat().st_size) for e in entries if _is_file(e))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    """No link that leads nowhere, or to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False
