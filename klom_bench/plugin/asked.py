"""What was asked for: command line and ini values, parsed once; imports nothing heavy."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from klom_bench.cell.counts import MOST, looks_in, refuse_one_model
from klom_bench.cell.variants import Param
from klom_bench.errors import KlomError, visible
from klom_bench.folders import expanded
from klom_bench.plugin.options import OPTIONS
from klom_bench.plugin.values import (
    confidence_in,
    epochs_in,
    family_in,
    limit_in,
    minutes_in,
    param_in,
    regression_in,
    share_in,
)


@dataclass(frozen=True)
class Options:
    """What was asked for, before it is known whether it exists.

    looks: numbers of models after which gates are looked at; none where that is done once, with
    `models`. budget: in minutes.
    store: None where none was named. missing: None for what is usual with the task.
    confidence, family: None for those of pyproject.toml.
    tuned_here: the files are of the command line, not of an ini file.
    """

    methods: tuple[str, ...]
    params: tuple[Param, ...]
    tuned: tuple[Path, ...]
    tuned_here: bool
    epochs: tuple[int, ...]
    task: str
    forget_sets: tuple[str, ...]
    models: int
    looks: tuple[int, ...]
    oracles: int
    budget: float | None
    device: str
    engine: str
    gpu_share: float | None
    seed: int
    store: Path | None
    estimator: str
    missing: str | None
    stale: str
    limits: tuple[tuple[str, Any], ...]
    confidence: float | None
    family: str | None
    baseline: Path | None
    save_baseline: Path | None
    save_points: Path | None
    report: Path | None
    report_examples: bool
    history_json: Path | None
    regressions: tuple[tuple[str, str], ...]
    plan: Literal["measure"] | bool


def read_options(config: pytest.Config) -> Options:
    """Command line over ini over defaults; UsageError for a value that cannot be read."""

    def ini(name: str) -> Any:
        try:
            return config.getini(f"klom_{name}")
        except (ValueError, TypeError) as error:
            raise pytest.UsageError(f"ini value klom_{name}: {error}") from error

    def value(name: str, default: Any) -> Any:
        given = config.getoption(f"klom_{name}")
        given = ini(name) if given is None else given
        return default if given is None else given

    def many(name: str) -> list[str]:
        return [str(v) for v in value(name, [])]

    def pairs(name: str) -> list[str]:
        """Both, the command line's last: it wins where both name the same thing."""
        return [str(v) for v in (*ini(name), *(config.getoption(f"klom_{name}") or ()))]

    try:
        *looks, models = looks_in(str(value("models", MOST)), "--klom-models")
        oracles = value("oracles", models)
        refuse_one_model("--klom-oracles", oracles)
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error
    seed = value("seed", 0)
    if seed < 0:
        raise pytest.UsageError(f"--klom-seed must not be negative, got {seed}")
    methods = tuple(dict.fromkeys(m for text in many("method") for m in text.split(",") if m))
    _refuse_odd_names(methods)
    missing = value("missing", None)
    if missing not in (None, "train", "download", "error"):
        raise pytest.UsageError(f"--klom-missing must be train, download or error, got {missing!r}")
    stale = value("stale", "error")
    if stale not in ("error", "retrain"):
        raise pytest.UsageError(f"--klom-stale must be error or retrain, got {stale!r}")
    return Options(
        methods=methods,
        params=tuple(param_in(text) for text in pairs("param")),
        tuned=tuple(_tuned(config)),
        tuned_here=config.getoption("klom_tuned") is not None,
        epochs=epochs_in(value("epochs", "")),
        task=value("task", "digits"),
        forget_sets=tuple(many("forget_set")),
        models=models,
        looks=(*looks, models) if looks else (),
        oracles=oracles,
        budget=minutes_in(value("budget", None), bool(looks)),
        device=value("device", "auto"),
        engine=value("engine", "threads"),
        gpu_share=share_in(value("gpu_share", None)),
        seed=seed,
        store=_store(config),
        estimator=value("estimator", "default"),
        missing=missing,
        stale=stale,
        limits=tuple(limit_in(text) for text in pairs("max")),
        confidence=confidence_in(value("confidence", None)),
        family=family_in(value("family", None)),
        baseline=_file(config, "baseline"),
        save_baseline=_file(config, "save_baseline"),
        save_points=_file(config, "save_points"),
        report=_report(config),
        report_examples=config.getoption("klom_report_examples"),
        history_json=_file(config, "history_json"),
        regressions=tuple(regression_in(text) for text in pairs("max_regression")),
        plan=config.getoption("klom_plan"),
    )


def _refuse_odd_names(methods: Iterable[str]) -> None:
    """Methods are fixtures, and stand in the ids of tests."""
    for name in methods:
        if not re.fullmatch(r"[^\W\d][\w.-]*", name):
            raise pytest.UsageError(
                f"--klom-method={visible(name)}: a method is named by letters, digits, dots, "
                "hyphens and underscores"
            )


def _path(folder: Path, text: str, source: str) -> Path:
    """A path as seen from a folder, with `~` written out."""
    try:
        return folder / expanded(text, source)
    except KlomError as error:
        raise pytest.UsageError(str(error)) from error


def _tuned(config: pytest.Config) -> list[Path]:
    given, here = config.getoption("klom_tuned"), config.invocation_params.dir
    if given is not None:
        return [_path(here, path, "--klom-tuned") for path in given]
    files = config.getini("klom_tuned")
    return [_path(config.rootpath, path, "ini value klom_tuned") for path in files]


def _file(config: pytest.Config, name: str) -> Path | None:
    """A path of the command line, seen from where pytest was started, or an ini value."""
    given, flag = config.getoption(f"klom_{name}"), OPTIONS[name].flag(name)
    if given is not None:
        if not given:
            raise pytest.UsageError(f"{flag} is empty: name a {OPTIONS[name].metavar.lower()}")
        return _path(config.invocation_params.dir, given, flag)
    ini = config.getini(f"klom_{name}") if OPTIONS[name].has_ini else None
    return _path(config.rootpath, ini, f"ini value klom_{name}") if ini else None


def _report(config: pytest.Config) -> Path | None:
    """The page; a file that ends in .html, as browsers want it."""
    path = _file(config, "report")
    if path is not None and path.suffix.lower() not in (".html", ".htm"):
        raise pytest.UsageError(f"--klom-report={path}: name a file that ends in .html")
    if path is None and config.getoption("klom_report_examples"):
        raise pytest.UsageError("--klom-report-examples needs --klom-report=FILE.html")
    return path


def _store(config: pytest.Config) -> Path | None:
    """The folder that was named."""
    given, ini = config.getoption("klom_store"), config.getini("klom_store")
    if "" in (given, ini):
        raise pytest.UsageError("--klom-store is empty: name a folder")
    if given is not None:
        return _path(config.invocation_params.dir, given, "--klom-store")
    return None if ini is None else _path(config.rootpath, ini, "ini value klom_store")
