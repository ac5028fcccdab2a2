"""The options of the command line and their ini values; imports nothing heavy."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest


@dataclass(frozen=True)
class Option:
    """--klom-NAME and the ini value klom_NAME.

    kind: a `count` is a number in ini files, where pytest knows one type an option, and may be a
    word on the command line; `list` is repeatable; `pairs`, too, and those of the ini value and of
    the command line add up; a `flag` has no value. has_ini: some options are of one run only.
    """

    text: str
    kind: Literal["text", "number", "count", "list", "pairs", "flag"] = "text"
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
        "N, the originals that are unlearned (default: 100); auto: as few as settle each gate, "
        "looked at with 20, 40, 60, 80, 100; auto:200 up to 200; auto:20,50,100 at these "
        "(in ini files: addopts)",
        kind="count",
        metavar="N|auto",
    ),
    "oracles": Option(
        "oracles to compare with; more of them lower the noise floor (default: as models)",
        kind="number",
        metavar="N",
    ),
    "budget": Option(
        "with --klom-models=auto: begin no further look after so many minutes of the run",
        metavar="MINUTES",
    ),
    "device": Option(
        "auto, cpu, cuda or cuda:1 (default: auto, which is cuda where there is one)",
        metavar="DEVICE",
    ),
    "engine": Option(
        "what computes: threads of this process, or ray: the cluster that RAY_ADDRESS names, else "
        "one of this machine's cores (klom help cluster; default: threads)",
        metavar="threads|ray",
    ),
    "gpu_share": Option(
        "with --klom-engine=ray: of a GPU for each pack of models; 0.25 has four share one "
        "(default: 1)",
        metavar="SHARE",
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
    "family": Option(
        "holm: all gates of a run that have an error are judged together, so that no pass and no "
        "fail among them is wrong with this confidence; those still open are settled at the end "
        "(default: none, each by itself; wins over [tool.klom.gates])",
        metavar="none|holm",
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
    "report": Option(
        "write the run as one HTML file, to be looked at and sent (klom help report); needs "
        "klom-bench[report]",
        metavar="FILE.html",
        has_ini=False,
    ),
    "report_examples": Option(
        "with --klom-report: show the points of forget sets that were left worst, images or "
        "numbers; they are somebody's data",
        kind="flag",
        has_ini=False,
    ),
    "history_json": Option(
        "write excess and P95 of this run to a file for github-action-benchmark "
        "(customSmallerIsBetter), which draws them from commit to commit",
        metavar="FILE",
        has_ini=False,
    ),
    "list": Option(
        "list tasks, forget sets and methods with their hyperparameters, and exit",
        kind="flag",
        has_ini=False,
    ),
    "plan": Option(
        "show what is in the store, what would be trained and for how long, and how many models "
        "would decide each gate, as far as those in the store tell; run nothing",
        kind="flag",
        has_ini=False,
    ),
    "plan=measure": Option(
        "the same, and train 10 models a side where fewer are there, to tell",
        kind="flag",
        has_ini=False,
    ),
}


FLAG_KINDS: dict[str, dict[str, Any]] = {
    "text": {},
    "number": {"type": int},
    "count": {},
    "list": {"action": "append"},
    "pairs": {"action": "append"},
}
INI_TYPES = {
    "text": "string",
    "number": "int",
    "count": "int",
    "list": "args",
    "pairs": "args",
}


def add_options(parser: pytest.Parser) -> None:
    """Register --klom-* and klom_*."""
    group = parser.getgroup("klom", "KLOM unlearning benchmark (more: klom help)")
    for name, option in OPTIONS.items():
        flag, text = option.flag(name), option.text.replace("%", "%%")
        if option.kind == "flag":
            dest, _, given = name.partition("=")
            how = {"action": "store_const", "default": False, "const": given or True}
            group.addoption(flag, dest=f"klom_{dest}", help=text, **how)
        else:
            how = FLAG_KINDS[option.kind]
            group.addoption(flag, default=None, metavar=option.shown(name), help=text, **how)
        if option.has_ini:
            ini: Any = INI_TYPES[option.kind]
            default: Any = [] if ini == "args" else None
            parser.addini(f"klom_{name}", option.text, type=ini, default=default)
