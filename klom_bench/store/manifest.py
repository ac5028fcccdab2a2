"""manifest.json: what an ensemble is, and a checksum of every file of every member."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from klom_bench.errors import KlomError
from klom_bench.forget_set import sha256_of
from klom_bench.store.files import write
from klom_bench.store.layout import EnsembleId

SCHEMA = 1
PARTS: tuple[Literal["train", "val"], ...] = ("train", "val")


@dataclass(frozen=True)
class Member:
    """One trained member: checksum a file, accuracy a split, mean |margin|, seconds of training."""

    files: Mapping[str, str]
    accuracy: Mapping[str, float]
    margin_size: float
    seconds: float
    made_with: str


@dataclass(frozen=True)
class Manifest:
    """What an ensemble is (`identity`) and the members that are whole."""

    identity: Mapping[str, Any]
    members: Mapping[int, Member]

    def missing(self, members: range) -> list[int]:
        """Those of these members that are not there."""
        return [i for i in members if i not in self.members]


def identity(ensemble: EnsembleId) -> dict[str, Any]:
    """Everything that decides what the members of an ensemble are."""
    task, forget_set = ensemble.task, ensemble.forget_set
    halves = {"first_half_sha256": sha256_of(ensemble.kept(0))} if ensemble.is_half else {}
    return {
        "schema": SCHEMA,
        "task": task.name,
        "task_version": task.version,
        "role": ensemble.role,
        "seed": ensemble.seed,
        "forget_set": forget_set.name if forget_set else None,
        "forget_set_sha256": forget_set.sha256 if forget_set else None,
        "data_sha256": task.data.sha256,
        "recipe": task.recipe.as_json(),
        "parameters": task.shapes,
        **halves,
    }


def load(folder: Path, ensemble: EnsembleId) -> Manifest | None:
    """The manifest of a folder, None where the folder is not there or empty.

    KlomError where the folder belongs to something else or the manifest cannot be read.
    """
    path = folder / "manifest.json"
    if not path.exists():
        there = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
        if not any(not name.startswith(".") for name in there):
            return None
        if path.name not in there:  # else another process has just written it
            raise KlomError(
                f"{folder} holds files but no manifest.json, so it is not known what they are: "
                "choose another --klom-store, or move that folder away"
            )
    try:
        content = json.loads(path.read_bytes())
        found = content["identity"]
        if not isinstance(found, dict):
            raise TypeError("its identity is not an object")
        members = {int(i): Member(**member) for i, member in content["members"].items()}
        for i, member in members.items():
            if not {ensemble.checkpoint(i), *(ensemble.margins(i, p) for p in PARTS)} <= set(
                member.files
            ):
                raise ValueError(f"member {i} lacks a file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KlomError(
            f"{path} cannot be read ({error}): restore it, or move the folder away to have it "
            "trained again"
        ) from error
    wanted = identity(ensemble)
    different = [
        f"{key} is {found.get(key)!r} there, {wanted.get(key)!r} is asked for"
        for key in dict.fromkeys((*wanted, *found))
        if found.get(key) != wanted.get(key)
    ]
    if different:
        raise KlomError(
            f"the ensemble in {folder} is another one: {'; '.join(different)}. It is left as it "
            "is: choose another --klom-store (or --klom-seed), or move that folder away"
        )
    return Manifest(wanted, members)


def save(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json whole."""
    content = {
        "identity": manifest.identity,
        "members": {str(i): asdict(m) for i, m in sorted(manifest.members.items())},
    }
    write(folder / "manifest.json", json.dumps(content, indent=1).encode())
