"""What tests are held against: limits of pyproject.toml and of options, an earlier run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from klom_bench.cell.baseline import Baseline, Regression, checked_regression, load
from klom_bench.cell.gates import CONFIDENT, FAMILY, checked_limits, checked_table, limits_for
from klom_bench.cell.limits import Limits
from klom_bench.errors import KlomError
from klom_bench.metrics.estimate import CONFIDENCE
from klom_bench.metrics.estimators import Estimator, estimator_named
from klom_bench.plugin.asked import Options
from klom_bench.pyproject import klom_table
from klom_bench.report.extra import refuse_without_extra


@dataclass(frozen=True)
class Gating:
    """Options, [tool.klom.gates] and its file, the baseline, and how far scores may rise above.

    family: how many gates of the run are judged together.
    """

    options: Options
    estimator: Estimator
    gates: Mapping[str, Any]
    gates_file: Path | None
    baseline: Baseline | None
    regressions: Mapping[str, Regression]
    family: int = 1

    def limits(self, method: str, forget_set: str, marker: Mapping[str, Any]) -> Limits:
        """What one test is held against: command line over marker over pyproject.toml."""
        limits = {
            **limits_for(self.gates, method, forget_set),
            **checked_limits(marker, "@pytest.mark.klom"),
            **checked_limits(dict(self.options.limits), "--klom-max"),
        }
        return Limits(limits, self.confidence, self.baseline, self.regressions, family=self.family)

    @property
    def confidence(self) -> float:
        """How sure gates must be: command line over pyproject.toml."""
        if self.options.confidence is not None:
            return self.options.confidence
        return float(self.gates.get(CONFIDENT, CONFIDENCE))

    @property
    def together(self) -> bool:
        """Whether gates of a run are judged together: command line over pyproject.toml."""
        return (self.options.family or self.gates.get(FAMILY)) == "holm"


def given_by(marker: pytest.Mark, where: str) -> dict[str, Any]:
    """Limits of @pytest.mark.klom, unchecked; KlomError where they have no names."""
    if marker.args:
        raise KlomError(
            f"{where} has {marker.args!r}: limits are given by name, as "
            "@pytest.mark.klom(forget_p95=2.0)"
        )
    return {**marker.kwargs}


def given_to(item: pytest.Item) -> dict[str, Any]:
    """Limits of the markers of a test; the closest one wins."""
    found: dict[str, Any] = {}
    for marker in reversed([*item.iter_markers("klom")]):
        found |= given_by(marker, "@pytest.mark.klom")
    return found


def starts(config: pytest.Config) -> tuple[Path, ...]:
    """Where a pyproject.toml is looked for: pytest's root folder, then where it was started."""
    return config.rootpath, config.invocation_params.dir


def gating_for(options: Options, config: pytest.Config) -> Gating:
    """What options and pyproject.toml say; KlomError for what cannot be, before any work."""
    table, gates_file = klom_table(starts(config))
    gates = table.get("gates", {})
    checked_table(gates)
    checked_limits(dict(options.limits), "--klom-max")
    _refuse_unwritable("--klom-save-baseline", options.save_baseline)
    _refuse_unwritable("--klom-history-json", options.history_json)
    if options.report is not None:
        refuse_without_extra("--klom-report")
        _made(options.report.parent, "--klom-report")
        _refuse_unwritable("--klom-report", options.report)
    if options.save_points is not None:
        _made(options.save_points, "--klom-save-points")
    return Gating(
        options=options,
        estimator=estimator_named(options.estimator),
        gates=gates,
        gates_file=gates_file,
        baseline=_baseline(options),
        regressions={
            metric: checked_regression(metric, rise) for metric, rise in options.regressions
        },
    )


def _baseline(options: Options) -> Baseline | None:
    """The baseline; KlomError where it is none."""
    if options.baseline is None:
        if options.regressions:
            raise KlomError(
                "--klom-max-regression says how far scores may rise, but above what? Give the "
                "earlier run with --klom-baseline=FILE"
            )
        return None
    return load(options.baseline)


def _refuse_unwritable(flag: str, target: Path | None) -> None:
    if target is not None and target.is_dir():
        raise KlomError(f"{flag}: {target} is a folder: name a file")
    if target is not None and not os.access(target.parent, os.W_OK):
        raise KlomError(
            f"{flag}: {target} cannot be written: name a file in a folder that is there"
        )


def _made(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KlomError(f"{flag}: {folder} cannot be made ({error.strerror})") from error
