"""manifest.json: what an ensemble is, and a checksum of every file of every member."""

import json
import math
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from klom_bench.errors import KlomError
from klom_bench.files.atomic import write
from klom_bench.forget_set import sha256_of
from klom_bench.tasks.ensemble_id import PARTS, EnsembleId
from klom_bench.tasks.signature import difference

SCHEMA = 1


class Stale(KlomError):
    """An ensemble in the store is not, or no longer, the one that is asked for."""


@dataclass(frozen=True)
class Weights:
    """A member that was trained: checksum of its checkpoint, seconds of training."""

    file: str
    seconds: float
    made_with: str


@dataclass(frozen=True)
class Member:
    """One whole member: checksum a file, accuracy a split, mean |margin|, seconds of training."""

    files: Mapping[str, str]
    accuracy: Mapping[str, float]
    margin_size: float
    seconds: float
    made_with: str


@dataclass(frozen=True)
class Manifest:
    """What an ensemble is (`identity`) and the members that are whole.

    trained: members whose checkpoint is there, and whose margins are not yet.
    """

    identity: Mapping[str, Any]
    members: Mapping[int, Member]
    trained: Mapping[int, Weights] = field(default_factory=dict)

    def lacking(self, members: range) -> list[int]:
        """Those of these members that are not there."""
        return [i for i in members if i not in self.members]

    @property
    def is_dated(self) -> bool:
        """Whether it was made before data and models had hashes of ours."""
        return not ({"data_sha256", "model"} <= {*self.identity}) or isinstance(
            self.identity["data_sha256"], str
        )


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
        "forget_set": None if forget_set is None else forget_set.name,
        "forget_set_sha256": None if forget_set is None else forget_set.sha256,
        "data_sha256": task.data_hashes,
        "recipe": task.recipe.as_json(),
        "parameters": task.shapes,
        **halves,
        "model": task.signature.as_json,
    }


def load(folder: Path, ensemble: EnsembleId) -> Manifest | None:
    """The manifest of a folder, None where the folder is not there or empty.

    Stale where the folder belongs to something else; KlomError where the manifest cannot be read.
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
        manifest = _parsed(json.loads(path.read_bytes()))
        different = differences(manifest.identity, ensemble)
        for i, member in manifest.members.items() if not different else ():
            wanted = {
                ensemble.checkpoint_file(i),
                *(ensemble.margins_file(i, part) for part in PARTS),
            }
            if not wanted <= {*member.files}:
                raise ValueError(f"member {i} lacks a file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise KlomError(
            f"{path} cannot be read ({type(error).__name__}: {error}): restore it, or have the "
            f"ensemble trained again: {how_to_remove(ensemble, folder)}"
        ) from error
    if different:
        raise Stale(f"the ensemble in {folder} is another one: {'; '.join(different)}")
    return manifest


def differences(found: Mapping[str, Any], ensemble: EnsembleId) -> list[str]:
    """What is not as it is asked for, in words."""
    wanted, words = identity(ensemble), []
    for key in dict.fromkeys((*wanted, *found)):
        then, now = found.get(key), wanted.get(key)
        if key == "data_sha256":
            words += _data_changed(then, ensemble)
        elif key == "model":
            words += [text] if then and (text := difference(then, wanted["model"])) else []
        elif then != now:
            words.append(f"{key} is {then!r} there, {now!r} is asked for")
    return words


def _data_changed(then: Any, ensemble: EnsembleId) -> list[str]:
    task = ensemble.task
    if isinstance(then, dict):
        changed = [name for name, sha256 in task.data_hashes.items() if then.get(name) != sha256]
        return [f"the data changed since ({', '.join(changed)})"] if changed else []
    word = task.data.sha256
    if word and then != word:
        return [f"data_sha256 is {then!r} there, {word!r} is asked for"]
    return []


def how_to_remove(ensemble: EnsembleId, folder: Path) -> str:
    """The command that removes an ensemble that lies in this folder, and nothing else."""
    which = " --halves" if ensemble.is_half else " --originals"
    if ensemble.forget_set is not None:
        which = f" --forget-set {ensemble.forget_set.name}"
    root = folder.parents[len(ensemble.folder.parts) - 1]
    return (
        f"`klom remove {ensemble.task.name}{which} --seed {ensemble.seed} "
        f"--store {shlex.quote(str(root))}` removes it"
    )


def _parsed(content: Any) -> Manifest:
    """The manifest in JSON; an exception that says what is not what it should be."""
    found = content["identity"]
    if not isinstance(found, dict):
        raise TypeError("its identity is not an object")
    model = found.get("model", {})
    if not isinstance(model, dict) or not isinstance(model.get("layers", {}), dict):
        raise TypeError("its model is not an object")
    rows, parts = model.get("logits") or [], [model.get(n, {}) for n in ("gradients", "start")]
    if not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        raise TypeError("the logits of its model are not rows of numbers")
    lists = [*rows, list(parts[0].values()), *parts[1].values()]
    for value in (value for numbers in lists for value in numbers if value is not None):
        _check(0, "a number of the model", abs(value))
    members = {_number(i): Member(**member) for i, member in content["members"].items()}
    trained = {_number(i): Weights(**w) for i, w in content.get("trained", {}).items()}
    for i, member in members.items():
        _check_texts(i, "files", member.files.values())
        if not {"retain", "val"} <= {*member.accuracy}:
            raise ValueError(f"member {i} lacks an accuracy")
        for split, value in member.accuracy.items():
            _check(i, f"accuracy {split}", value, 1.0)
        _check(i, "margin_size", member.margin_size)
    both: list[tuple[int, Weights | Member]] = [*trained.items(), *members.items()]
    for i, one in both:
        _check(i, "seconds", one.seconds)
        _check_texts(i, "made_with", [one.made_with])
    for i, weights in trained.items():
        _check_texts(i, "file", [weights.file])
    return Manifest(found, members, trained)


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"member {text!r:.40} is no number")
    return int(text)


def _check(member: int, name: str, value: Any, most: float = 1e300) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and 0 <= value <= most and math.isfinite(value)):
        raise ValueError(f"{name} of member {member} is {value!r:.40}")


def _check_texts(member: int, name: str, values: Iterable[Any]) -> None:
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{name} of member {member} is {value!r:.40}")


def save(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json whole."""
    content = {
        "identity": manifest.identity,
        "members": {str(i): asdict(m) for i, m in sorted(manifest.members.items())},
    }
    if manifest.trained:
        content["trained"] = {str(i): asdict(w) for i, w in sorted(manifest.trained.items())}
    write(folder / "manifest.json", json.dumps(content, indent=1).encode())
