"""manifest.json: what an ensemble is, written once. Its members have files of their own."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from klom_bench.ensemble.outputs import classification
from klom_bench.errors import KlomError
from klom_bench.files import atomic
from klom_bench.forget_set import sha256_of
from klom_bench.store import members as member_files
from klom_bench.store.members import (
    MALFORMED,
    MEMBERS,
    Member,
    check_number,
    has_all,
    parsed,
    read_all,
    unreadable,
)
from klom_bench.tasks.code import code_sha256
from klom_bench.tasks.ensemble_id import EnsembleId
from klom_bench.tasks.signature import difference
from klom_bench.tasks.start import Started
from klom_bench.tasks.task import Task
from klom_bench.tasks.training import IMPORTED

SCHEMA = 1


class Stale(KlomError):
    """An ensemble in the store is not, or no longer, the one that is asked for."""


@dataclass(frozen=True)
class Manifest:
    """What an ensemble is (`identity`), and the members that are whole.

    listed: members that an earlier version has listed in manifest.json itself.
    """

    identity: Mapping[str, Any]
    members: Mapping[int, Member]
    listed: Mapping[int, Member] = field(default_factory=dict)

    def lacking(self, members: range) -> list[int]:
        """Those of these members that are not there."""
        return [i for i in members if i not in self.members]

    @property
    def imported(self) -> bool:
        """Whether its members came from elsewhere."""
        return says_imported(self.identity)

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
        "recipe": task.training.as_json(),
        "parameters": task.shapes,
        **halves,
        **_meaning(task),
        "model": task.signature.as_json,
    }


def load(folder: Path, ensemble: EnsembleId) -> Manifest | None:
    """The manifest of a folder, None where the folder is not there or empty.

    Stale where the folder belongs to something else; KlomError where the manifest cannot be read.
    """
    path = folder / "manifest.json"
    if not path.exists():
        there = visible_names(folder)
        if not there:
            return None
        if path.name not in there:  # else another process has just written it
            raise KlomError(
                f"{folder} holds files but no manifest.json, so it is not known what they are: "
                "choose another --klom-store, or move that folder away"
            )
    try:
        manifest = read(folder)
        different = differences(manifest.identity, ensemble)
    except MALFORMED as error:
        raise KlomError(
            f"{path} cannot be read ({type(error).__name__}: {error}): restore it, or have the "
            f"ensemble trained again: {how_to_remove(ensemble, folder)}"
        ) from error
    if different:
        raise Stale(f"the ensemble in {folder} is another one: {'; '.join(different)}")
    for i, member in manifest.members.items():
        if not has_all(i, member, ensemble):
            where = path if i in manifest.listed else folder / MEMBERS / f"{i}.json"
            raise unreadable(where, f"member {i} lacks a file")
    return manifest


def visible_names(folder: Path) -> set[str]:
    """Names in a folder, but for those that begin with a dot; none where it is not there."""
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return {name for name in names if not name.startswith(".")}


def read(folder: Path) -> Manifest:
    """What lies in a folder, whatever is asked for; one of MALFORMED, or KlomError of a member."""
    found, listed = _parsed(json.loads((folder / "manifest.json").read_bytes()))
    return Manifest(found, listed | read_all(folder), listed)


def says_imported(identity: Mapping[str, Any]) -> bool:
    """Whether what stands in a manifest is of members that came from elsewhere."""
    return bool(identity.get("recipe") == IMPORTED)


def is_imported(folder: Path) -> bool:
    """Whether the ensemble in a folder came from elsewhere; False where that cannot be told."""
    try:
        return says_imported(json.loads((folder / "manifest.json").read_bytes())["identity"])
    except MALFORMED:
        return False


def differences(found: Mapping[str, Any], ensemble: EnsembleId) -> list[str]:
    """What is not as it is asked for, in words."""
    wanted, words = identity(ensemble), []
    for key in dict.fromkeys((*wanted, *found)):
        then, now = found.get(key), wanted.get(key)
        if key == "data_sha256":
            words += _data_changed(then, ensemble)
        elif key == "forget_set_sha256" and then != now:
            words.append(f"the indices of {wanted['forget_set']} changed since")
        elif key == "outputs":
            words += _outputs_changed(then, now)
        elif key == "recipe":
            words += _training_changed(then or {}, now or {})
        elif key == "model":
            words += [text] if then and (text := difference(then, wanted["model"])) else []
        elif then != now:
            words.append(f"{key} is {then!r} there, {now!r} is asked for")
    return words


def _meaning(task: Task) -> dict[str, Any]:
    """What outputs mean and where models start, where that is not the usual."""
    found: dict[str, Any] = {}
    if task.outputs != classification:
        parts = {n: getattr(task.outputs, n) for n in ("loss", "margin", "right")}
        found["outputs"] = {name: _function(function) for name, function in parts.items()}
    if isinstance(task.architecture, Started):
        found["start"] = {
            "sha256": task.architecture.sha256,
            "fresh": [*task.architecture.fresh],
        }
    return found


def _function(function: Any) -> str | None:
    """What a function of outputs does: ours by name, since their code may change alone."""
    if str(getattr(function, "__module__", "")).startswith("klom_bench."):
        return str(function.__name__)
    return None if function is None else code_sha256(function)


def _outputs_changed(then: Any, now: Any) -> list[str]:
    usual = {n: getattr(classification, n).__name__ for n in ("loss", "margin", "right")}
    then, now = then or usual, now or usual
    changed = [name for name in usual if then.get(name) != now.get(name)]
    return [f"the {' and the '.join(changed)} of outputs changed"] if changed else []


def _training_changed(then: Any, now: Mapping[str, Any]) -> list[str]:
    """`lr is 0.1 there, 0.2 is asked for`; code that changed has no value to show.

    Imported members serve a task whatever trains it, which they were not.
    """
    if then == IMPORTED:
        return []
    if now == IMPORTED:
        return ["it was trained here, and its task is one of imported models now (train=None)"]
    if not isinstance(then, dict) or {*then} & {"function"} != {*now} & {"function"}:
        return [f"recipe is {then!r} there, {now!r} is asked for"]
    what = "training" if "function" in now else "recipe"
    words = [
        f"{what}: {key} is {then.get(key)!r} there, {now.get(key)!r} is asked for"
        for key in dict.fromkeys((*now, *then))
        if then.get(key) != now.get(key) and key != "code_sha256"
    ]
    if not words and then.get("code_sha256") != now.get("code_sha256"):
        words.append(f"the code of {now['function']}, or of what it names of its file, changed")
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


def _parsed(content: Any) -> tuple[dict[str, Any], dict[int, Member]]:
    """(identity, listed members) in JSON; an exception that says what is not what it should be."""
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
        check_number("a number of the model", abs(value))
    return found, {_number(i): parsed(_number(i), m) for i, m in content.get("members", {}).items()}


def _number(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"member {text!r:.40} is no number")
    return int(text)


def write_identity(folder: Path, ensemble: EnsembleId, imported: bool = False) -> None:
    """Write manifest.json, unless another process has; Stale where that one means another one."""
    recipe = {"recipe": IMPORTED} if imported else {}
    content = identity_bytes({**identity(ensemble), **recipe})
    atomic.write_first(folder / "manifest.json", content)
    load(folder, ensemble)


def rewrite(folder: Path, ensemble: EnsembleId, manifest: Manifest) -> None:
    """Make an older manifest like those of today: a file a member, and identity alone.

    Whatever happens between, each member is listed here or there.
    """
    for i, member in manifest.listed.items():
        member_files.write(folder, i, member)
    atomic.write(folder / "manifest.json", identity_bytes(identity(ensemble)))


def identity_bytes(identity: Mapping[str, Any]) -> bytes:
    """The content of manifest.json."""
    return json.dumps({"identity": identity}, indent=1).encode()
