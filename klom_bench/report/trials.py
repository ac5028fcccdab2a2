"""What `klom tune` says."""

from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from klom_bench.metrics.summary import SPLITS
from klom_bench.tuning.trials import Trial, Tuning


def trial_line(number: int, trial: Trial, tuned: Iterable[str]) -> str:
    """One trial: its objective, mean P95 a split, and its settings."""
    settings = " ".join(f"{name}={trial.hyperparameters[name]}" for name in tuned)
    if trial.error is not None:
        return f"  {number + 1:3}  failed: {trial.error.splitlines()[0][:90]}  {settings}"
    splits = (np.mean([scores[s] for scores in trial.scores.values()]) for s in SPLITS)
    means = " / ".join(f"{value:.2f}" for value in splits)
    return f"  {number + 1:3}  {trial.objective:5.2f}  ({means})  {settings}"


def best_line(tuning: Tuning, path: Path, known: Collection[str]) -> str:
    """The choice, and how to use it. known: methods that pytest finds without a fixture."""
    method, best = tuning.asked["method"], tuning.best
    if best is None:
        return f"{method}: no trial could be measured; {path} says why\n"
    task = tuning.asked.get("task", "digits")
    there = "" if task == "digits" else f" --klom-task={task}"
    chosen = " ".join(f"{name}={value}" for name, value in tuning.chosen().items())
    return (
        f"{method}: best of {len(tuning.trials)}: {best.objective:.2f} with {chosen}"
        f" (doing nothing: {'n/a' if best.do_nothing is None else f'{best.do_nothing:.2f}'})\n"
        + "".join(
            f"  {name}={tuning.chosen()[name]} lies at an end of {ends}: --range {name}=LOW..HIGH "
            "looks further (into another --output)\n"
            for name, ends in tuning.at_ends().items()
        )
        + f"  pytest{there} --klom-method={method} --klom-tuned={path}\n"
        + ("" if method in known else f"  (with a fixture {method!r} that returns it)\n")
    )
