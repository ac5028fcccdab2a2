"""Time and memory against models, points and workers: python tests/benchmarks/growth.py [SVG]

Prints a table and draws the figure in docs/costs.md. Each measurement is a process of its own, so that
its memory is its own. By hand, on a quiet machine: some minutes on two cores.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = (10, 30, 100, 300, 1000)
POINTS = (1_000, 10_000, 100_000, 1_000_000)
WORKERS = (1, 2)
USUAL_POINTS, USUAL_MODELS = 1_797, 100
SCORING = """
import json, resource, sys, time
import numpy as np
from klom_bench import klom
from klom_bench.cell.limits import Limits
from klom_bench.cell.margins import margins_given, record_of
from klom_bench.metrics.estimators import ESTIMATORS
kind, models, points = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
draw = np.random.default_rng(0)
oracle, unlearned = (draw.standard_normal((models, points), np.float32) + 5 for _ in "ab")
start = time.perf_counter()
if kind == "klom":
    klom(oracle, unlearned)
else:
    sides = {"oracle": oracle, "unlearned": unlearned}
    record_of(
        **{who: margins_given(side, who) for who, side in sides.items()}, originals=None,
        forget=np.arange(points // 20), train_points=4 * points // 5, name="made_up",
        estimator=ESTIMATORS["default"], limits=Limits({}),
    )
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""
RUNNING = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
folder, *asked = sys.argv[1:]
command = [sys.executable, "-m", "pytest", *asked]
subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=folder)
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20]))
"""
Measured = tuple[float, float]
"""Seconds, and GB of the largest process."""


def measured(program: str, *arguments: object) -> Measured:
    """What a program says that measures itself."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    usual = {k: v for k, v in os.environ.items() if k not in ("PYTEST_ADDOPTS", "KLOM_STORE")}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=usual)
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory


def run(models: int, workers: int) -> tuple[Measured, Measured]:
    """`ga` on four forget sets, from an empty store, and again."""
    asked = ["--klom-method=ga", "--klom-forget-set=1-4", f"--klom-models={models}", "-q"]
    asked += ["-n", str(workers)] * (workers > 1)
    with tempfile.TemporaryDirectory() as folder:  # without this repository's gates
        (Path(folder) / "test_it.py").write_text("from klom_bench.suite import test_klom\n")
        cold, warm = (measured(RUNNING, folder, *asked, "--klom-store=store") for _ in "cw")
    return cold, warm


def all_of_it() -> dict[str, dict[int, Measured]]:
    """What is drawn: a line by its name, x -> seconds and GB."""
    found: dict[str, dict[int, Measured]] = {}

    def keep(name: str, x: int, one: Measured) -> None:
        found.setdefault(name, {})[x] = one
        print(f"| {name} | {x:,} | {one[0]:.2f} s | {one[1]:.2f} GB |", flush=True)

    print("| what | of | seconds | memory |\n|---|---|---|---|")
    for kind in ("klom", "record"):
        for points in POINTS:
            keep(f"{kind}, points", points, measured(SCORING, kind, USUAL_MODELS, points))
        for models in MODELS:
            keep(f"{kind}, models", models, measured(SCORING, kind, models, USUAL_POINTS))
    for workers in WORKERS:
        for models in MODELS[:-1]:
            cold, warm = run(models, workers)
            keep(f"first run, {workers} worker{'s' * (workers > 1)}", models, cold)
            keep(f"next run, {workers} worker{'s' * (workers > 1)}", models, warm)
    return found


def draw(found: dict[str, dict[int, Measured]], path: Path) -> None:
    """Seconds above, memory below: against points, models in scoring, models in runs."""
    from matplotlib.ticker import NullFormatter

    from klom_bench.report.figures.canvas import (
        COLOURS,
        MARKERS,
        PAGE,
        Drawn,
        blank,
        style,
        written,
    )

    panels = (
        (f"points, {USUAL_MODELS} models", "points"),
        (f"models a side, {USUAL_POINTS:,} points", "models"),
        ("models, four sets of digits", "run"),
    )
    with style():
        figure = blank(PAGE, 3.9)
        axes = figure.subplots(2, len(panels), sharex="col")
        for column, (label, part) in enumerate(panels):
            lines = {name: of for name, of in found.items() if part in name}
            for i, (name, of) in enumerate(lines.items()):
                for row in (0, 1):
                    values = [one[row] for one in of.values()]
                    axes[row, column].loglog(
                        [*of], values, MARKERS[i] + "-", color=COLOURS[i], label=name.split(", ")[0]
                        if part != "run" else name,
                    )  # fmt: skip
            axes[0, column].legend(fontsize=6)
            axes[1, column].set_xlabel(label)
            for one in axes[:, column]:
                for axis in (one.xaxis, one.yaxis):  # the usual formulas are not set here
                    axis.set_major_formatter("{x:.9g}")
                    axis.set_minor_formatter(NullFormatter())
        axes[0, 2].set_ylim(top=1000)  # above all is the legend
        axes[1, 2].set_ylim(0.1, 2)
        axes[0, 0].set_ylabel("seconds")
        axes[1, 0].set_ylabel("GB, largest process")
        written(Drawn("growth", "Growth", "", figure), path)


if __name__ == "__main__":
    everything = all_of_it()
    if sys.argv[1:]:
        draw(everything, Path(sys.argv[1]))
