"""Runs that were saved: their records, and what they were measured at, when and on what."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from klom_bench.cell.record import Record
from klom_bench.cell.record_json import OfTest, RecordJson, Row
from klom_bench.errors import KlomError, visible
from klom_bench.report.sound import refuse_damaged


@dataclass(frozen=True)
class Commit:
    """A state of the code. dirty: with changes that no commit has. time: ISO 8601."""

    id: str
    time: str | None = None
    branch: str | None = None
    dirty: bool = False

    @property
    def short(self) -> str:
        """As people write it; + where something was changed."""
        return self.id[:8] + "+" * self.dirty


@dataclass(frozen=True)
class SavedRun:
    """One pytest session as a file of --benchmark-json or --benchmark-autosave has it.

    name: of the file. rows: records, and where methods do not apply why, in the order of tests.
    failed: tests that ended before they were scored. at: ISO 8601, empty where it is not known.
    machine: in words.
    """

    name: str
    rows: tuple[Row, ...]
    failed: tuple[OfTest, ...] = ()
    at: str = ""
    commit: Commit | None = None
    machine: str = ""

    @property
    def records(self) -> list[RecordJson]:
        """What was measured."""
        return [row for row in self.rows if "unfit" not in row]


class NotOfKlom(KlomError):
    """A file that is none of a KLOM run: of another benchmark, or of something else."""


def runs_in(paths: Iterable[Path]) -> list[SavedRun]:
    """The KLOM runs of benchmark JSONs, in this order; KlomError for what is none, or damaged."""
    return [_run_in(path) for path in paths]


def runs_below(folder: Path) -> tuple[list[SavedRun], list[str]]:
    """The KLOM runs in all JSON files below a folder, and what is to be said of the others."""
    runs, said, others = [], list[str](), 0
    for path in sorted(folder.rglob("*.json")):
        try:
            runs.append(_run_in(path))
        except NotOfKlom:
            others += 1
        except KlomError as error:
            said.append(f"passed over: {error}")
    if others:
        files = "1 file" if others == 1 else f"{others} files"
        said.append(f"passed over: {files} below {folder} without a KLOM test")
    return runs, said


def _run_in(path: Path) -> SavedRun:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise KlomError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise KlomError(_no_run(path, error)) from error
    try:
        benchmarks = [(of["extra_info"], of.get("params")) for of in content["benchmarks"]]
        records = tuple(_record(info["klom"]) for info, _ in benchmarks if "klom" in info)
        failed = tuple(
            _failed(params)
            for info, params in benchmarks
            if "klom" not in info and params and "klom_method" in params
        )
        run = saved_run(path.name, records, content, failed)
    except KlomError as error:
        raise KlomError(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotOfKlom(_no_run(path, error)) from error
    if not run.rows and not run.failed:
        raise NotOfKlom(f"{path} has no KLOM test: run pytest with --klom-method")
    return run


def _no_run(path: Path, error: Exception) -> str:
    return (
        f"{path} is not a file of --benchmark-json or --benchmark-autosave of a KLOM run "
        f"({type(error).__name__}: {error})"
    )


def saved_run(
    name: str, rows: Iterable[Row], about: Mapping[str, Any], failed: Iterable[OfTest] = ()
) -> SavedRun:
    """A run with what pytest-benchmark says of it: datetime, commit_info, machine_info."""
    return SavedRun(
        name=name,
        rows=tuple(rows),
        failed=tuple(failed),
        at=str(about.get("datetime") or ""),
        commit=_commit(about.get("commit_info") or {}),
        machine=_machine(about.get("machine_info") or {}),
    )


def _record(content: Any) -> RecordJson:
    """One that is whole, as this version writes it."""
    record = Record.from_json(content)
    refuse_damaged(content)
    return record.to_json()


def _failed(params: Mapping[str, Any]) -> OfTest:
    method, _, setting = str(params["klom_method"]).partition(":")
    return {
        "task": str(params["klom_task"]),
        "forget_set": str(params["klom_forget_set"]),
        "method": method,
        "setting": setting,
    }


def _commit(info: Mapping[str, Any]) -> Commit | None:
    known = str(info.get("id") or "unversioned")
    if known in ("unversioned", "unknown"):
        return None
    time, branch = (str(info[key]) if info.get(key) else None for key in ("time", "branch"))
    return Commit(known, time, branch, bool(info.get("dirty")))


def _machine(info: Mapping[str, Any]) -> str:
    """Processor, GPU, system and versions; the machine's own name is nobody's business."""
    cpu = info.get("cpu") or {}
    parts = [
        str(cpu.get("brand_raw") or info.get("processor") or info.get("machine") or ""),
        *map(str, info.get("gpu") or ()),
        " ".join(str(info[key]) for key in ("system", "release") if info.get(key)),
        *(
            f"{name} {info[key]}"
            for name, key in (("Python", "python_version"), ("torch", "torch"))
            if info.get(key)
        ),
    ]
    return visible(", ".join(part for part in parts if part))
