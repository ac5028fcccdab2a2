"""The options of the command line and their ini values, parsed once; imports nothing heavy."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from klom_bench.cell.counts import refuse_one_model
from klom_bench.cell.variants import Param
from klom_bench.errors import KlomError, visible
from klom_bench.folders import expanded
from klom_bench.plugin.values import confidence_in, epochs_in, limit_in, param_in, regression_in


@dataclass(frozen=True)
class Option:
    """--klom-NAME and the ini value klom_NAME.

    kind: `list` is repeatable; `pairs`, too, and those of the ini value and of the command line add
    up; a `flag` has no value. has_ini: some options are of one run only.
    """

    text: str
    kind: Literal["text", "number", "list", "pairs", "flag"] = "text"
    metavar: str = ""
    has_ini: bool = True

    def flag(self, name: str) -> str:
        """What stands on the command line."""
        return f"--klom-{name.replace('_', '-')}"

    def shown(self, name: str) -> str:
        """What stands for the value in a help text; nothing for a flag."""
        return "" if self.kind == "flag" else self.metavar or name.upper()


OPTIONS = {
    "method": Option(
        "unlearning method: one that --klom-list names, all built-in ones (all), or a "
        "fixture of your own that returns a method; repeatable, or several with commas. "
        "Then only KLOM tests run",
        kind="list",
        metavar="NAME",
    ),
    "param": Option(
        "hyperparameter of the selected methods, or of one: lr=1e-3, ga.lr=1e-3; "
        "several values, lr=1e-4,1e-3, make a test each; repeatable, then all "
        "combinations",
        kind="pairs",
        metavar="[METHOD.]NAME=VALUE",
    ),
    "tuned": Option(
        "a file of `klom tune`: its choice takes the place of a method's defaults; repeatable",
        kind="list",
        metavar="FILE",
    ),
    "epochs": Option(
        "score after these epochs of one run, as 1,3,5,10; gates hold for the last",
        metavar="EPOCHS",
    ),
    "task": Option("task to run, one that --klom-list names (default: digits)", metavar="NAME"),
    "forget_set": Option(
        "forget sets by name, number or range: forget_set_3, 3, 1-3, or 1-3,7; "
        "repeatable (default: all of the task)",
        kind="list",
        metavar="SETS",
    ),
    "models": Option(
        "N, the originals that are unlearned (default: 100)",
        kind="number",
        metavar="N",
    ),
    "oracles": Option(
        "oracles to compare with; more of them lower the noise floor (default: as models)",
        kind="number",
        metavar="N",
    ),
    "device": Option(
        "auto, cpu, cuda or cuda:1 (default: auto, which is cuda where there is one)",
        metavar="DEVICE",
    ),
    "seed": Option(
        "seed of all members; another seed is another set of ensembles (default: 0)",
        kind="number",
        metavar="N",
    ),
    "store": Option(
        "folder of ensembles (default: $KLOM_STORE, else your cache folder)", metavar="FOLDER"
    ),
    "estimator": Option(
        "KLOM estimator: default, data_unlearning_bench, easydub, attribute_to_delete",
        metavar="NAME",
    ),
    "missing": Option(
        "what to do about ensembles that are not in the store: train, download or error "
        "(default: train; error for published tasks)",
        metavar="train|download|error",
    ),
    "stale": Option(
        "what to do about ensembles in the store whose data, model or recipe changed "
        "since: error, or retrain (they are moved aside, not deleted; default: error)",
        metavar="error|retrain",
    ),
    "max": Option(
        "gate: fail above this number, as forget_excess=0.2; SPLIT_excess, forget_leftover, or "
        "[reverse_]SPLIT_STATISTIC with mean, p50, p95, p99; SPLIT is forget, retain or val; "
        "repeatable; wins over [tool.klom.gates]",
        kind="pairs",
        metavar="METRIC=LIMIT",
    ),
    "confidence": Option(
        "how sure a pass or a fail must be, where the number has an error; "
        "otherwise the gate is inconclusive; 0.5: the number alone decides (default: 0.95)",
        metavar="C",
    ),
    "baseline": Option(
        "scores of an earlier run to compare with: a file of --klom-save-baseline, or "
        "of --benchmark-json",
        metavar="FILE",
    ),
    "max_regression": Option(
        "gate: fail where a score rises above the baseline's by more than this, as "
        "forget_p95=10% or forget_p95=0.2 (nats); repeatable",
        kind="pairs",
        metavar="METRIC=RISE",
    ),
    "save_baseline": Option(
        "write the scores of this run to a small sorted file, to be committed and compared "
        "with by --klom-baseline",
        metavar="FILE",
        has_ini=False,
    ),
    "save_points": Option(
        "keep KLOM and its reverse of every point, a .npz file a test, in this folder",
        metavar="FOLDER",
        has_ini=False,
    ),
    "list": Option(
        "list tasks, forget sets and methods with their hyperparameters, and exit",
        kind="flag",
        has_ini=False,
    ),
    "plan": Option(
        "show what is in the store, what would be trained and for how long; run nothing",
        kind="flag",
        has_ini=False,
    ),
}


FLAG_KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "number": {"type": int},
    "list": {"action": "append"},
    "pairs": {"action": "append"},
}
INI_TYPES = {"text": "string", "number": "int", "list": "args", "pairs": "args"}


@dataclass(frozen=True)
class Options:
    """What was asked for, before it is known whether it exists.

    store: None where none was named. missing: None for what is usual with the task.
    confidence: None for that of pyproject.toml.
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
    oracles: int
    device: str
    seed: int
    store: Path | None
    estimator: str
    missing: str | None
    stale: str
    limits: tuple[tuple[str, Any], ...]
    confidence: float | None
    baseline: Path | None
    save_baseline: Path | None
    save_points: Path | None
    regressions: tuple[tuple[str, str], ...]


def add_options(parser: pytest.Parser) -> None:
    """Register --klom-* and klom_*."""
    group = parser.getgroup("klom", "KLOM unlearning benchmark (more: klom help)")
    for name, option in OPTIONS.items():
        flag, text = option.flag(name), option.text.replace("%", "%%")
        if option.kind == "flag":
            group.addoption(flag, action="store_true", help=text)
        else:
            how = FLAG_KINDS[option.kind]
            group.addoption(flag, default=None, metavar=option.shown(name), help=text, **how)
        if option.has_ini:
            ini: Any = INI_TYPES[option.kind]
            default: Any = [] if ini == "args" else None
            parser.addini(f"klom_{name}", option.text, type=ini, default=default)


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

    models = value("models", 100)
    oracles = value("oracles", models)
    try:
        refuse_one_model("--klom-models", models)
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
        oracles=oracles,
        device=value("device", "auto"),
        seed=seed,
        store=_store(config),
        estimator=value("estimator", "default"),
        missing=missing,
        stale=stale,
        limits=tuple(limit_in(text) for text in pairs("max")),
        confidence=confidence_in(value("confidence", None)),
        baseline=_file(config, "baseline"),
        save_baseline=_file(config, "save_baseline"),
        save_points=_file(config, "save_points"),
        regressions=tuple(regression_in(text) for text in pairs("max_regression")),
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


def _store(config: pytest.Config) -> Path | None:
    """The folder that was named."""
    given, ini = config.getoption("klom_store"), config.getini("klom_store")
    if "" in (given, ini):
        raise pytest.UsageError("--klom-store is empty: name a folder")
    if given is not None:
        return _path(config.invocation_params.dir, given, "--klom-store")
    return None if ini is None else _path(config.rootpath, ini, "ini value klom_store")
